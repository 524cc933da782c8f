"""Which requests a summary is made of, and what it says of itself."""

import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from specdec_bench.archive import RunDirectory
from specdec_bench.metrics.definitions import DEFINITIONS
from specdec_bench.metrics.summary import encode, summarize
from specdec_bench.records.manifest import Lateness, Manifest
from specdec_bench.records.request import AcceptanceCounters, RequestError, RequestRecord, Step
from specdec_bench.records.summary import Summary
from tests.helpers import made_runs
from tests.helpers.made_runs import S, failure, request
from tests.helpers.trees import as_tree


def manifest(**changes: Any) -> Manifest:
    """A run on two accelerators."""
    return made_runs.manifest(**({"engine": {"num_accelerators": 2}} | changes))


def summarized(records: Iterable[RequestRecord], manifest: Manifest) -> dict[str, Any]:
    """The summary as its file has it."""
    found: dict[str, Any] = as_tree(summarize(records, manifest))
    return found


def figures(found: dict[str, Any]) -> dict[str, Any]:
    """What the requests decide, less their number by outcome."""
    return {name: value for name, value in found.items() if name != "requests"}


TWO = (request(0, 3, 1), request(1, 0))


def test_a_run_of_two_requests_by_hand() -> None:
    """6 tokens in 2 steps and 1 in 1; from 0 s to 12 s, 9 tokens with the prefills'."""
    found = summarized(TWO, manifest())
    assert found["requests"] == {
        "finished": 2,
        "failed": 0,
        "skipped": 0,
        "interrupted": 0,
        "warmup": 0,
        "conversations": 2,
        "skipped_prompts": [],
        "preempted": None,
        "preemptions": None,
    }
    assert found["warnings"] == []
    assert (found["prompt_tokens"]["count"], found["prompt_tokens"]["max"]) == (2, 1.0)
    assert found["acceptance"]["source"] == "engine_request"
    assert found["acceptance"]["pooled"]["acceptance_length"] == 7 / 3
    assert found["acceptance"]["macro"]["acceptance_length"] == (3 + 1) / 2
    assert found["latency"]["ttft_ms"]["mean"] == 1000.0
    assert found["latency"]["step_time_ms"]["count"] == 3
    assert found["throughput"]["output_tps"] == 9 / 12
    assert found["throughput"]["output_tps_per_gpu"] == 9 / 24
    assert (found["merged_chunks"], found["merged_share"]) == (0, 0.0)
    assert (found["partial"], found["synthetic"]) == (False, None)


@pytest.mark.parametrize(
    ("outcome", "changes"),
    [
        ("warmup", {"phase": "warmup"}),
        ("warmup", {"phase": "warmup", "error": failure("engine_error")}),
        ("failed", {"error": failure("engine_error")}),
        ("interrupted", {"error": failure("interrupted")}),
        ("skipped", {"error": failure("context_overflow"), "sent_ns": None, "steps": (), "output_token_ids": ()}),
    ],
    ids=["warm-up", "failed warm-up", "failed", "interrupted", "skipped"],
)
def test_what_did_not_finish_is_counted_and_in_no_other_figure(outcome: str, changes: dict[str, Any]) -> None:
    """It neither ends the run nor enters a figure, though it comes first and took longest."""
    # Another category and source too: not even the list of categories may show it.
    other = request(-100, 3, 3, 3, category="other", acceptance_source="stream", **changes)
    found = summarized([other, *TWO], manifest())
    assert found["requests"][outcome] == 1
    assert found["requests"]["finished"] == 2
    assert found["requests"]["conversations"] == 2
    assert figures(found) == figures(summarized(TWO, manifest()))


def test_what_outgrew_the_context_is_named_once() -> None:
    """In two repeats, and one of the conversations at its second turn."""
    skipped = {"error": failure("context_overflow"), "sent_ns": None, "steps": (), "output_token_ids": ()}
    records = [request(n, prompt_id=name, turn=turn, **skipped) for n, (name, turn) in enumerate([("b", 0), ("a", 1)])]
    found = summarized([*records, *TWO, records[0]], manifest())["requests"]
    assert (found["skipped"], found["skipped_prompts"]) == (3, ["b", "a"])


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"sampling": {"ignore_eos": True}}, ["sampling.ignore_eos=true: .* distorts acceptance"]),
        ({"sampling": {"min_new_tokens": 8}}, ["sampling.min_new_tokens=8: .* distorts acceptance"]),
        ({"dataset": {"name": "random"}}, ["dataset=random: acceptance on random text says little of real use"]),
        (
            {"sampling": {"ignore_eos": True, "min_new_tokens": 8}, "dataset": {"name": "random"}},
            ["sampling.ignore_eos", "sampling.min_new_tokens", "dataset=random"],
        ),
        (
            {"engine": {"name": "sglang"}, "spec": {"name": "ngram", "draft_length": 3}, "load": {"repeats": 2}},
            ["load.repeats=2: .* text that was seen already"],
        ),
        ({"spec": {"name": "suffix", "draft_length": 3, "max_cached_requests": 9}, "load": {"repeats": 2}}, ["load."]),
        ({"spec": {"name": "suffix", "draft_length": 3, "max_cached_requests": 0}, "load": {"repeats": 2}}, []),
        ({"engine": {"name": "vllm"}, "spec": {"name": "ngram", "draft_length": 3}, "load": {"repeats": 2}}, []),
        ({"engine": {"name": "sglang"}, "spec": {"name": "ngram", "draft_length": 3}, "load": {"repeats": 1}}, []),
        ({"sampling": {"ignore_eos": False, "min_new_tokens": 0}, "dataset": {"name": "demo"}}, []),
    ],
)
def test_what_bends_acceptance_is_said(config: dict[str, Any], words: list[str]) -> None:
    found = summarized(TWO, manifest(config={"spec": {"draft_length": 3}, "load": {"concurrency": 1}} | config))
    assert len(found["warnings"]) == len(words)
    for warning, pattern in zip(found["warnings"], words, strict=True):
        assert re.match(pattern, warning)


def test_a_run_without_a_finished_request_is_all_null() -> None:
    found = summarized([request(0, 3, error=failure("engine_error"))], manifest(status="failed"))
    assert found["requests"]["failed"] == 1
    assert found["acceptance"]["source"] is None
    assert found["acceptance"]["pooled"]["acceptance_length"] is None
    assert found["acceptance"]["by_category"] == found["latency_by_category"] == {}
    assert found["throughput"]["output_tps"] is None
    assert found["partial"] is True


def test_several_sources_in_one_run_are_refused() -> None:
    """An exact count and an upper bound must not be averaged."""
    with pytest.raises(ValueError, match=r"several sources.*engine_request.*stream"):
        summarized([request(0, 1), request(1, 1, acceptance_source="stream")], manifest())


def test_a_request_that_ended_before_its_first_token_names_no_source() -> None:
    """Nothing was received that could tell, so it must not spoil a run of another source."""
    records = [request(0, 1, acceptance_source="stream"), request(1, steps=(), output_token_ids=())]
    found = summarized(records, manifest())
    assert found["acceptance"]["source"] == "stream"
    assert found["requests"]["finished"] == 2


def test_categories_stand_by_themselves_in_alphabetical_order() -> None:
    records = [request(0, 3, 1, category="b"), request(1, 0, category="a"), request(2, 1, 1, category="b")]
    found = summarized(records, manifest())
    assert list(found["acceptance"]["by_category"]) == list(found["latency_by_category"]) == ["a", "b"]
    alone = summarized([records[0], records[2]], manifest())
    assert found["acceptance"]["by_category"]["b"] == {
        "num_requests": 2,
        **{name: alone["acceptance"][name] for name in ("pooled", "macro", "macro_by_conversation")},
    }
    assert found["latency_by_category"]["b"] == alone["latency"]
    assert found["acceptance"]["by_category"]["a"]["pooled"]["acceptance_histogram"] == [1, 0, 0, 0]


def test_turns_of_one_prompt_are_one_conversation_and_repeats_are_not() -> None:
    """Lengths 4 and 2 in one conversation, 1 in its repeat."""
    records = [
        request(0, 3, prompt_id="p"),
        request(1, 1, prompt_id="p", turn=1),
        request(2, 0, prompt_id="p", repeat=1),
    ]
    found = summarized(records, manifest())
    assert found["requests"]["conversations"] == 2
    assert found["acceptance"]["macro"]["acceptance_length"] == 7 / 3
    assert found["acceptance"]["macro_by_conversation"]["acceptance_length"] == (3 + 1) / 2


def test_lists_reach_the_configured_draft_length() -> None:
    config = {"spec": {"draft_length": 5}, "load": {"concurrency": 1}}
    found = summarized(TWO, manifest(config=config))["acceptance"]
    for block in (found["pooled"], found["macro"], found["by_category"]["writing"]["pooled"]):
        assert len(block["acceptance_joint"]) == len(block["acceptance_conditional"]) == 5
        assert len(block["acceptance_histogram"]) == 6


def test_an_engine_that_accepts_more_than_was_configured_is_not_cut() -> None:
    config = {"spec": {"draft_length": 1}, "load": {"concurrency": 1}}
    assert summarized(TWO, manifest(config=config))["acceptance"]["pooled"]["acceptance_histogram"] == [1, 1, 0, 1]


def test_plain_decoding_has_a_length_of_one_and_no_drafts() -> None:
    steps = tuple(Step(received_ns=(i + 1) * S, num_tokens=1) for i in range(4))
    record = request(0, acceptance_source=None, steps=steps, output_token_ids=(7,) * 4)
    found = summarized([record], manifest(config={"spec": {"name": "none"}, "load": {"concurrency": 1}}))["acceptance"]
    assert found["source"] is None
    assert found["pooled"]["acceptance_length"] == found["macro"]["acceptance_length"] == 1.0
    assert found["pooled"]["acceptance_joint"] is None


def test_totals_of_the_run_give_the_pooled_figures_alone() -> None:
    """Merged chunks of 6 + 4 tokens; the engine counted 4 steps over both, 3 of them with drafts."""
    merged = (Step(received_ns=S, num_tokens=1), Step(received_ns=2 * S, num_tokens=5))
    shorter = (Step(received_ns=11 * S, num_tokens=1), Step(received_ns=12 * S, num_tokens=3))
    records = [
        request(0, acceptance_source="engine_total", steps=merged, output_token_ids=(7,) * 6),
        request(1, acceptance_source="engine_total", steps=shorter, output_token_ids=(7,) * 4),
    ]
    totals = AcceptanceCounters(
        num_verify_steps=3, num_accepted=4, num_proposed=9, num_decode_steps=4, histogram=(1, 1, 0, 1)
    )
    found = summarized(records, manifest(engine_totals=totals))["acceptance"]
    assert found["source"] == "engine_total"
    assert found["pooled"] == {
        "output_tokens": 10,
        "decode_steps": 4,
        "verify_steps": 3,
        "proposed": 9,
        "accepted": 4,
        "truncated_steps": None,
        "acceptance_length": 8 / 4,
        "acceptance_length_drafted": 1 + 4 / 3,
        "draft_acceptance_rate": 4 / 9,
        "acceptance_joint": [2 / 3, 1 / 3, 1 / 3],
        "acceptance_conditional": [2 / 3, 1 / 2, 1.0],
        "acceptance_histogram": [1, 1, 0, 1],
    }
    by_category = found["by_category"]["writing"]
    for block in (found["macro"], found["macro_by_conversation"], by_category["macro"]):
        assert set(block.values()) == {None}
    assert {name for name, value in by_category["pooled"].items() if value is not None} == {"output_tokens"}


def test_what_is_not_a_plain_result_says_so() -> None:
    found = summarized(TWO, manifest(status="interrupted", synthetic="no model was run"))
    assert (found["status"], found["partial"], found["synthetic"]) == ("interrupted", True, "no model was run")


# ---------------------------------------------------------------- summary.json


def test_the_bytes_are_a_function_of_the_records_and_the_manifest() -> None:
    def records() -> list[RequestRecord]:
        return [request(i, i % 4, category=name, prompt_id=f"p{i % 2}") for i, name in enumerate("cabd")]

    first = encode(summarize(records(), manifest()))
    assert encode(summarize(iter(records()), manifest())) == first
    assert first.endswith(b"}\n")


def test_numbers_come_back_as_they_were_computed() -> None:
    """Full precision, and numbers, not strings."""
    found = encode(summarize(TWO, manifest()))
    assert json.loads(found)["acceptance"]["pooled"]["acceptance_length"] == 7 / 3


def test_a_summary_holds_no_nan() -> None:
    """Single tokens, no tokens and no time between two chunks are what divides by zero."""
    same_time = tuple(Step(received_ns=S, num_tokens=1, num_proposed=0, num_accepted=0) for _ in range(3))
    records = [
        request(0),
        request(1, steps=(), output_token_ids=()),
        request(2, steps=same_time, output_token_ids=(7,) * 3),
    ]
    encoded = encode(summarize(records, manifest()))
    assert b"NaN" not in encoded
    assert b"Infinity" not in encoded
    with pytest.raises(ValueError, match="JSON compliant"):
        encode(msgspec.structs.replace(summarize(TWO, manifest()), merged_share=math.nan))


@pytest.mark.parametrize("category", ["é", "\ud800 é", "\u2028", 'a "b"\n', ""])
def test_any_category_is_written_and_read_back(tmp_path: Path, category: str) -> None:
    found = summarize([request(0, 1, category=category)], manifest())
    run = RunDirectory.create(tmp_path / "run", manifest(), [], "seed: 0\n")
    run.write_summary(encode(found))
    assert run.summary() == found


COUNTS = {
    "output_tokens",
    "decode_steps",
    "verify_steps",
    "proposed",
    "accepted",
    "num_requests",
    "duration_s",
    "steady_duration_s",
    "num_accelerators",
}
"""The quantities that the definitions' formulas are made of."""


def test_every_figure_is_defined_beside_its_number() -> None:
    """Tools use one name for different things, so a name without its formula says nothing."""
    found = summarized(TWO, manifest())
    assert found["definitions"] == DEFINITIONS
    blocks = [found["acceptance"][name] for name in ("pooled", "macro", "macro_by_conversation")]
    counts = COUNTS | {"objectives", "num_judged", "num_within", "num_missed", "most_missed"}
    counts |= {"energy_j", "mean_power_w", "idle_power_w", "is_sampled", "missing", "per_accelerator_hour"}
    blocks += [found[name] for name in ("latency", "throughput", "client", "slo", "energy", "cost")]
    names = {name for block in blocks for name in block}
    assert names - DEFINITIONS.keys() <= counts
    assert {"pooled", "macro", "macro_by_conversation"} <= DEFINITIONS.keys()
    blocks_of_runs = {"pooled", "macro", "macro_by_conversation", "by_num_proposed"}
    assert DEFINITIONS.keys() <= names | blocks_of_runs, "defined but not computed"


def test_a_summary_of_an_earlier_release_is_read() -> None:
    """The first release had neither warnings nor the client's lateness, and knew no rate of single requests."""
    found = summarized(TWO, manifest())
    for name in ("warnings", "dataset", "prompt_tokens", "client"):
        del found[name]
    del (
        found["throughput"]["output_tps_per_request"],
        found["requests"]["preempted"],
        found["acceptance"]["cross_check"],
    )
    read = msgspec.json.decode(json.dumps(found), type=Summary)
    assert (read.warnings, read.client.saturated, read.throughput.output_tps_per_request.count) == ((), None, 0)
    assert read.acceptance.pooled.acceptance_length == 7 / 3


def test_what_a_later_release_adds_is_passed_over_and_plugins_metrics_are_kept() -> None:
    found = summarized(TWO, manifest()) | {"later": 1, "extra": {"toy": {"value": 2.0, "definition": "two"}}}
    read = msgspec.json.decode(json.dumps(found), type=Summary)
    assert as_tree(read) == {name: value for name, value in found.items() if name != "later"}


@pytest.mark.parametrize(("p50_ms", "saturated"), [(2.0, False), (2.1, True)])
def test_a_late_loop_is_told(p50_ms: float, saturated: bool) -> None:
    lateness = Lateness(count=9, mean_ms=1.5, p50_ms=p50_ms, p99_ms=5.0, max_ms=7.0)
    found = summarized(TWO, manifest(client_lateness=lateness))
    late = {"mean": 1.5, "p50": p50_ms, "p99": 5.0, "max": 7.0}
    assert found["client"] == {"lateness_ms": late, "saturated": saturated}
    bursts = Lateness(count=9, mean_ms=2.1, p50_ms=0.1, p99_ms=40.0, max_ms=70.0)
    assert summarized(TWO, manifest(client_lateness=bursts))["client"]["saturated"] is True
    assert summarized(TWO, manifest())["client"] == {"lateness_ms": None, "saturated": None}


# ---------------------------------------------------------------- what the engine made of it


def changed(record: RequestRecord, **changes: Any) -> RequestRecord:
    return msgspec.structs.replace(record, **changes)


def test_preemptions_are_counted_and_warned_of() -> None:
    """One of two requests, three times; the warm-up's and a failed one's are in no metric."""
    records = [
        changed(TWO[0], num_preemptions=3),
        changed(TWO[1], num_preemptions=0),
        changed(TWO[1], num_preemptions=9, phase="warmup"),
        changed(TWO[1], num_preemptions=9, error=RequestError(kind="engine_error", message="gone")),
    ]
    found = summarized(records, manifest())
    assert (found["requests"]["preempted"], found["requests"]["preemptions"]) == (1, 3)
    (warning,) = found["warnings"]
    assert warning.startswith("PREEMPTED: 1 of 2 requests, 3 times in all")


def test_requests_that_were_never_put_off_are_no_warning() -> None:
    found = summarized([changed(record, num_preemptions=0) for record in TWO], manifest())
    assert (found["requests"]["preempted"], found["requests"]["preemptions"], found["warnings"]) == (0, 0, [])


def test_preemptions_that_the_engine_does_not_tell_are_unknown_and_not_none() -> None:
    found = summarized([changed(TWO[0], num_preemptions=3), TWO[1]], manifest())
    assert (found["requests"]["preempted"], found["requests"]["preemptions"]) == (None, None)


def test_what_the_engine_changed_is_warned_of() -> None:
    engine = {"differences": [{"name": "engine.max_num_seqs", "asked": 64, "got": 48}]}
    assert summarized(TWO, manifest(engine=engine))["warnings"] == [
        "engine.max_num_seqs: 64 was asked for, the engine has 48"
    ]


@pytest.mark.parametrize(
    ("concurrency", "repeats", "warned"), [(4, 2, False), (5, 2, True), (3, 1, True), (2, 1, False)]
)
def test_a_concurrency_that_cannot_be_is_warned_of(concurrency: int, repeats: int, warned: bool) -> None:
    """Two conversations, `repeats` times."""
    config = manifest().config | {"load": {"name": "closed", "concurrency": concurrency, "repeats": repeats}}
    found = summarized(TWO, manifest(config=config, dataset={"num_prompts": 2}))
    assert [f"there are {2 * repeats} conversations" in warning for warning in found["warnings"]] == [True] * warned


def test_how_the_prompts_came_out_of_their_source() -> None:
    """Row numbers are all in the manifest; the summary has the first ones. An archive of before says nothing of it."""
    unused = {"rows": {"without a message": {"num_rows": 7, "rows": "1, 3, 5, 7, 9, 11, 13"}}}
    dataset = {"num_rows": 20, "num_usable": 13, "num_prompts": 5, "num_turns_cut": 2, "unused": unused, "sha256": "a"}
    assert summarized(TWO, manifest(dataset=dataset))["dataset"] == {
        "num_rows": 20,
        "num_usable": 13,
        "num_prompts": 5,
        "num_turns_cut": 2,
        "unused": {"rows": {"without a message": {"num_rows": 7, "rows": "1, 3, 5, 7, 9, ..."}}},
    }
    assert set(summarized(TWO, manifest(dataset={}))["dataset"].values()) == {None}
