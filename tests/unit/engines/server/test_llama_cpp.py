"""What the adapter of llama.cpp's server makes of the recorded answers of a real one."""

import json
from typing import Any

import pytest

from specdec_bench.config.schema.engine import LlamaCppServerEngine
from specdec_bench.config.schema.model import DraftCheckpoint, ModelConfig
from specdec_bench.config.schema.spec import DraftModelSpec, NgramSpec, NoSpec, SpecConfig
from specdec_bench.engines.server import llama_cpp_identity
from specdec_bench.engines.server.http import error_message
from specdec_bench.engines.server.identity import ServedModel
from specdec_bench.engines.server.llama_cpp import LlamaCppServer
from specdec_bench.engines.server.llama_cpp_reply import LlamaCppReply
from specdec_bench.engines.server.prometheus import Metrics
from specdec_bench.errors import ConfigError, EngineError
from specdec_bench.records.manifest import EngineDescription
from specdec_bench.records.request import AcceptanceCounters, GenerationRequest, RequestSampling
from tests.helpers import build
from tests.helpers.recordings import body_of, recorded

URL = "http://127.0.0.1:1"
DRAFTING = DraftModelSpec(draft_length=3, draft=DraftCheckpoint(path="org/draft"))
NGRAM = NgramSpec(draft_length=4, ngram_min=3, ngram_max=3)
PROPS = json.loads(body_of("llama_cpp/props"))


def server(spec: SpecConfig = DRAFTING, **engine: Any) -> LlamaCppServer:
    return LlamaCppServer(build.experiment(engine=LlamaCppServerEngine(**engine), model=model(), spec=spec))


def model(max_seq_len: int | None = 256) -> ModelConfig:
    return ModelConfig(name="m", path="m/target", max_seq_len=max_seq_len)


def reply(name: str, *, length: int = 1 << 20) -> LlamaCppReply:
    found, body = LlamaCppReply(), body_of(f"llama_cpp/{name}")
    for at in range(0, len(body), length):
        found.take(body[at : at + length], at)
    return found


@pytest.mark.parametrize("length", [1, 7, 1000, 1 << 20])
def test_each_step_and_what_it_accepted_is_exact(length: int) -> None:
    """The server decoded 9 times: once the prompt, 7 times 3 or fewer drafts, and the last token without drafts."""
    found = reply("draft", length=length)
    assert found.check() == "length"
    counters, steps = server()._count(found, 15)
    assert counters == AcceptanceCounters(
        num_verify_steps=7,
        num_accepted=3,
        num_proposed=21,
        histogram=(5, 1, 1, 0),
        per_step_proposed=(3, 3, 3, 3, 3, 3, 3),
        per_step_accepted=(0, 0, 0, 0, 1, 0, 2),
    )
    assert found.log.sizes == [1, 1, 1, 1, 1, 2, 1, 3, 1]
    assert found.log.token_ids == [504, 2365, 6354, 16438, 314, 253, 8170, 1183, 282, 253, 8170, 5270]
    assert steps == ([0, 3, 3, 3, 3, 3, 3, 3, 0], [0, 0, 0, 0, 0, 1, 0, 2, 0], 8)
    assert found.log.times_ns == sorted(found.log.times_ns)
    assert found.made.num_prompt_tokens == 15


def test_the_output_is_that_of_plain_decoding() -> None:
    plain = reply("plain")
    assert plain.check() == "length"
    assert plain.log.token_ids == reply("draft").log.token_ids
    assert server(NoSpec())._count(plain, 15) == (None, ([0] * 12, [0] * 12, 11))


def test_a_last_step_that_the_end_token_cuts() -> None:
    """It drafts 3 and accepts 1; the second of its two tokens is the end token."""
    found = reply("draft_eos")
    assert found.check() == "stop"
    counters, steps = server()._count(found, 10)
    assert counters is not None
    assert (counters.num_accepted, counters.num_proposed, steps.accepted) == (1, 3, [0, 1])


def test_lookups_that_find_nothing_are_steps_without_drafts() -> None:
    found = reply("ngram")
    assert found.check() == "length"
    counters, steps = server(NGRAM)._count(found, 10)
    assert counters is not None
    assert (counters.per_step_proposed, counters.per_step_accepted) == ((3, 3, 3, 2), (3, 3, 3, 2))
    assert found.log.sizes == [1, 4, 4, 4, 3]
    assert steps.num_decode_steps == 4
    assert sum(found.log.sizes) == 1 + 4 + 11  # the prefill's, one for each step, and the accepted drafts


def test_a_token_inside_a_character_is_noticed() -> None:
    """`A😀B漢C` and the end token are 10 tokens; the stream has the ids of 6."""
    with pytest.raises(EngineError, match=r"left out the ids of 4 tokens: llama.cpp's streams have none for a token"):
        reply("half_character").check()


def test_a_server_that_is_killed_leaves_an_incomplete_reply() -> None:
    assert not recorded("llama_cpp/killed").is_complete
    found = reply("killed")
    assert len(found.log.token_ids) > 1
    with pytest.raises(EngineError, match="finish_reason None"):
        found.check()


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("error_400_context", 400, "request (300 tokens) exceeds the available context size (256 tokens)"),
        ("error_400_token", 400, "Prompt contains invalid tokens"),
        ("error_401", 401, "Invalid API Key"),
        ("error_404", 404, "File Not Found"),
        ("error_501", 501, "This server does not support metrics endpoint. Start it with `--metrics`"),
        ("error_503", 503, "Loading model"),
    ],
)
def test_errors_are_told_in_the_servers_words(name: str, status: int, words: str) -> None:
    assert recorded(f"llama_cpp/{name}").status == status
    assert words in error_message(body_of(f"llama_cpp/{name}"))


def without(name: str, *fields: str) -> LlamaCppReply:
    """Returns a recorded reply without some of its counts, as older releases write it."""
    found = LlamaCppReply()
    for line in body_of(f"llama_cpp/{name}").splitlines():
        if line.startswith(b"data: "):
            event = json.loads(line[6:])
            if not event["stop"]:
                for field in fields:
                    event.pop(field)
            found.take(b"data: " + json.dumps(event).encode() + b"\n\n", 0)
    return found


def test_without_counts_of_each_token_the_totals_are_left() -> None:
    counters, steps = server()._count(without("draft", "timings"), 15)
    assert counters == AcceptanceCounters(num_verify_steps=None, num_accepted=3, num_proposed=21)
    assert steps.num_decode_steps is None


def test_counts_that_contradict_each_other_are_refused() -> None:
    found = reply("draft")
    found.timings.draft_n_accepted += 1
    with pytest.raises(EngineError, match="contradict each other"):
        server()._count(found, 15)
    with pytest.raises(EngineError, match="contradict each other"):  # more drafts in a step than K
        server(DraftModelSpec(draft_length=2, draft=DraftCheckpoint(path="org/draft")))._count(reply("draft"), 15)


def test_totals_are_the_counters_growth() -> None:
    """The recorded counters have the requests `draft`, `draft_eos`, one of 10 tokens, and the probe."""
    text = body_of("llama_cpp/metrics").decode()
    told = server()._totals(Metrics(text), Metrics(""))
    assert told is not None
    name = "llamacpp:spec_decode_num"
    steps, drafts = (Metrics(text).total(f"{name}_{kind}_total") for kind in ("drafts", "draft_tokens"))
    assert (told.num_verify_steps, told.num_proposed, told.num_accepted) == (steps, drafts, 7)
    assert told.histogram is not None
    assert sum(told.histogram) == steps
    assert sum(number * count for number, count in enumerate(told.histogram)) == 7
    assert server()._totals(Metrics(""), Metrics("")) is None


def test_counters_that_the_server_rounds_are_not_used() -> None:
    """It writes them with six digits; those of the positions are whole."""
    name = "llamacpp:spec_decode_num"
    lines = [f"{name}_drafts_total 1.23457e+06", f"{name}_draft_tokens_total 3.7037e+06"]
    lines += [f'{name}_accepted_tokens_per_pos_total{{position="{n}"}} {count}' for n, count in enumerate((5, 3, 1))]
    told = server()._totals(Metrics("\n".join(lines)), Metrics(""))
    assert told == AcceptanceCounters(num_verify_steps=None, num_accepted=9)


def body(sampling: RequestSampling, adapter: LlamaCppServer) -> dict[str, Any]:
    request = GenerationRequest(request_id="r", prompt_token_ids=(5, 6), sampling=sampling)
    found: dict[str, Any] = json.loads(adapter._body(request))
    return found


def test_a_request_is_token_ids_and_names_every_sampler() -> None:
    sampling = RequestSampling(max_new_tokens=9, temperature=0.5, top_p=0.9, top_k=3, seed=8, stop_token_ids=(2,))
    assert body(sampling, server()) == {
        "prompt": [5, 6],
        "n_predict": 9,
        "temperature": 0.5,
        "top_p": 0.9,
        "top_k": 3,
        "seed": 8,
        "samplers": ["temperature", "top_k", "top_p"],
        "ignore_eos": False,
        "cache_prompt": False,
        "return_tokens": True,
        "timings_per_token": True,
        "stream": True,
    }
    assert body(RequestSampling(max_new_tokens=9), server())["ignore_eos"] is True


def test_an_end_token_that_the_file_lacks_is_refused() -> None:
    adapter = server()
    adapter._end_tokens = frozenset({0, 2, 4})
    with pytest.raises(EngineError, match=r"token 7: the GGUF file's end tokens are \[0, 2, 4\]"):
        body(RequestSampling(max_new_tokens=9, stop_token_ids=(2, 7)), adapter)


def describe(
    spec: SpecConfig = DRAFTING, *, num_positions: int | None = 3, max_seq_len: int | None = 256, **engine: Any
) -> EngineDescription:
    config = build.experiment(engine=LlamaCppServerEngine(url=URL, **engine), model=model(max_seq_len), spec=spec)
    probe = reply("probe")
    assert probe.check() == "length"
    return llama_cpp_identity.describe(
        config,
        {},
        ServedModel("nm", None, False),
        PROPS,
        probe,
        address=URL,
        release=None,
        num_positions=num_positions,
        has_totals=True,
    )


def test_what_a_server_tells_is_compared_and_the_rest_is_claimed() -> None:
    told = describe()
    assert told.claimed == ("spec.draft.path", "spec_draft_n_min=0", "spec_draft_p_min=0")
    assert told.resolved["speculative.types"] == "none,draft-simple"
    assert told.resolved["end_token_ids"] == [0, 2, 4]
    assert told.resolved["model_ftype"] == "Q4_1"
    assert (told.max_seq_len, told.is_elsewhere, told.notes) == (256, True, ())
    assert llama_cpp_identity.model_names(PROPS) == ["m/target/SmolLM2-135M-Instruct.Q4_1.gguf", "m/target"]
    assert "spec.draft_length" in describe(num_positions=None).claimed


@pytest.mark.parametrize(
    ("spec", "options", "words"),
    [
        (NoSpec(), {}, "spec=none: the server at .* drafts by draft-simple; start one without"),
        (NGRAM, {}, "spec=ngram: the server at .* drafts by draft-simple, not ngram-simple; choose that method"),
        (DRAFTING, {"num_positions": 5}, "spec.draft_length=3: .* drafts 5 tokens; set spec.draft_length=5"),
        (DRAFTING, {"max_seq_len": 4096}, "model.max_seq_len=4096: .* has room for 256"),
        (DRAFTING, {"max_num_seqs": 7}, "engine.max_num_seqs=7: .* runs 2 requests at once"),
    ],
)
def test_a_server_that_runs_something_else_is_refused(spec: SpecConfig, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        describe(spec, **options)
