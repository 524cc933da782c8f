"""What the measuring process refuses before an engine starts, with checkpoints that differ from the bundled ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from specdec_bench.config.checkpoints import ASSETS
from specdec_bench.config.schema.engine import SyntheticEngine
from specdec_bench.config.schema.experiment import OPTIONS, ExperimentConfig
from specdec_bench.config.schema.model import DraftCheckpoint, ModelConfig
from specdec_bench.config.schema.sampling import SamplingConfig
from specdec_bench.config.schema.spec import DraftModelSpec, NoSpec, SpecConfig
from specdec_bench.config.support import ENGINES
from specdec_bench.errors import ConfigError
from specdec_bench.records.checkpoint import Checkpoint, Stated
from specdec_bench.records.request import Prompt
from specdec_bench.runner.preflight import Prepared, fingerprints, prepare
from tests.helpers import build

Variant = Callable[..., Path]

ONE_TURN = [Prompt(prompt_id="one", category="c", turns=("hi",))]
"""7 tokens in the template: bos, user, h, i, end, assistant."""
TWO_TURNS = [Prompt(prompt_id="two", category="c", turns=("hi", "ho"))]


@pytest.fixture
def variant(tmp_path: Path) -> Variant:
    """Returns a function that copies a bundled checkpoint, some of its files edited, or replaced by bytes."""

    def make(base: str = "target", without: tuple[str, ...] = (), **files: Any) -> Path:
        folder = tmp_path / base
        folder.mkdir()
        for source in (ASSETS / "tiny" / base).iterdir():
            if source.name not in without:
                (folder / source.name).write_bytes(source.read_bytes())
        for stem, content in files.items():
            if isinstance(content, bytes):
                (folder / f"{stem}.safetensors").write_bytes(content)
            else:
                path = folder / f"{stem}.json"
                path.write_text(json.dumps(json.loads(path.read_text()) | content))
        return folder

    return make


def experiment(
    engine: str = "transformers",
    target: Path | str = "bundled:tiny/target",
    spec: SpecConfig | None = None,
    max_seq_len: int | None = None,
    max_new_tokens: int = 8,
    **engine_settings: Any,
) -> ExperimentConfig:
    return build.experiment(
        engine=OPTIONS["engine"][engine](**engine_settings),
        model=ModelConfig(name="m", path=str(target), max_seq_len=max_seq_len),
        spec=spec or NoSpec(),
        sampling=SamplingConfig(max_new_tokens=max_new_tokens),
    )


def drafted_by(folder: Path | str, spec: str = "draft_model") -> SpecConfig:
    made: SpecConfig = OPTIONS["spec"][spec](draft=DraftCheckpoint(path=str(folder)))
    return made


def refused(config: ExperimentConfig, words: str, prompts: list[Prompt] = ONE_TURN) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        prepare(config, prompts)
    assert len(str(caught.value).splitlines()) == 1


def test_what_is_ready_is_encoded_and_known() -> None:
    config = experiment(spec=drafted_by("bundled:tiny/draft"))
    prepared = prepare(config, ONE_TURN)
    assert isinstance(prepared, Prepared)
    assert prepared.prompter.stop_token_ids == (1,)
    (ids,) = prepared.first_token_ids
    assert (ids[0], ids[1], ids[-2], ids[-1]) == (0, 3, 1, 4)
    kept = fingerprints(config, prepared.facts, of_hub=False)
    assert set(kept) == {"target", "draft"}
    assert kept["target"].facts.context_length == Stated(value=8192, file="config.json")
    assert kept["target"].facts.weights["num_tensors"] == 38
    assert kept["draft"].vocabulary_differences == 0
    assert msgspec.json.decode(msgspec.json.encode(kept), type=dict[str, Checkpoint]) == kept
    assert fingerprints(config, prepared.facts, of_hub=True) == {}


def test_the_synthetic_engine_has_no_checkpoints() -> None:
    config = experiment("synthetic", target="/nowhere")
    assert isinstance(config.engine, SyntheticEngine)
    assert prepare(config, ONE_TURN).facts == {}


@pytest.mark.parametrize("engine", ["transformers", "vllm", "sglang", "tensorrt_llm"])
def test_a_template_is_asked_before_the_weights_are_looked_at(variant: Variant, engine: str) -> None:
    refusing = "{{ raise_exception('no') if messages[0]['content'] == 'hi' }}"
    folder = variant(model=b"not weights", tokenizer_config={"chat_template": refusing})
    refused(experiment(engine, folder), r"^prompt one: the chat template of .* refuses the conversation: no$")


@pytest.mark.parametrize("engine", ["transformers", "vllm", "sglang", "tensorrt_llm"])
def test_weights_that_cannot_be_are_named(variant: Variant, engine: str) -> None:
    folder = variant(config={"hidden_size": 320})
    refused(experiment(engine, folder), r"model\.safetensors: tensor model\.embed_tokens\.weight has the shape")
    (folder / "model.safetensors").write_bytes(b"\x10\x00 not a header")
    refused(experiment(engine, folder), r"model\.safetensors: has no safetensors header")
    (folder / "model.safetensors").unlink()
    refused(experiment(engine, folder), r"target: holds no weights")
    config = experiment("vllm", folder, extra_args={"load_format": "dummy"})
    facts = prepare(config, ONE_TURN).facts
    assert fingerprints(config, facts, of_hub=False)["target"].facts.weights is None
    (folder / "model.safetensors").write_bytes(b"of another format, which is not loaded")
    kept = fingerprints(config, prepare(config, ONE_TURN).facts, of_hub=False)["target"].facts.weights
    assert "model.safetensors: has no safetensors header" in kept["error"]


def test_the_draft_s_weights_are_looked_at_too(variant: Variant) -> None:
    folder = variant("draft", config={"intermediate_size": 345})
    refused(experiment(spec=drafted_by(folder)), r"draft/model\.safetensors: tensor .*mlp.* has the shape")


@pytest.mark.parametrize("engine", ["transformers", "vllm"])
def test_a_type_of_model_that_nobody_knows_is_named(variant: Variant, engine: str) -> None:
    folder = variant(config={"model_type": "nosuch", "architectures": ["NoSuchForCausalLM"]})
    refused(experiment(engine, folder), r"config\.json: transformers \S+ knows no model_type=nosuch")


def test_where_an_engine_s_own_types_are_not_known_it_says_so_itself(variant: Variant) -> None:
    folder = variant(config={"model_type": "nosuch", "architectures": ["NoSuchForCausalLM"]})
    assert ENGINES["tensorrt_llm"].model_types is None
    prepare(experiment("tensorrt_llm", folder), ONE_TURN)


def test_a_configuration_that_transformers_cannot_use_is_named(variant: Variant) -> None:
    folder = variant(config={"num_hidden_layers": "four"})
    refused(experiment(target=folder), r"target: .*num_hidden_layers': .*int.*four")


def test_a_run_of_which_nothing_fits_is_refused(variant: Variant) -> None:
    folder = variant(config={"max_position_embeddings": 16})
    long = [Prompt(prompt_id="long", category="c", turns=("word " * 40,))]
    refused(experiment(target=folder), r"none of 1 conversations fits the model's context of 16 tokens", long)
    prepare(experiment(target=folder), ONE_TURN + long)  # that one is skipped, and counted
    own_limit = [Prompt(prompt_id="short", category="c", turns=("hi",), max_new_tokens=4)]
    prepare(experiment(target=folder, max_new_tokens=100), own_limit)


class TestShortDraft:
    """A draft of 64 positions, a target of 8192, a prompt of six tokens."""

    @pytest.fixture
    def draft(self, variant: Variant) -> Path:
        return variant("draft", config={"max_position_embeddings": 64})

    def test_a_run_that_stays_within_is_taken(self, draft: Path) -> None:
        prepare(experiment(spec=drafted_by(draft), max_new_tokens=58), ONE_TURN)
        prepare(experiment(spec=drafted_by(draft), max_seq_len=64), TWO_TURNS)

    def test_a_run_that_may_go_beyond_is_refused(self, draft: Path) -> None:
        words = r"draft: the draft has positions for 64 tokens, and a request may reach {}; pass model\.max_seq_len=64"
        refused(experiment(spec=drafted_by(draft), max_new_tokens=59), words.format(65))
        refused(experiment(spec=drafted_by(draft)), words.format(8192), TWO_TURNS)
        refused(experiment(spec=drafted_by(draft), max_seq_len=100), words.format(100), TWO_TURNS)

    def test_vllm_stops_drafting_there(self, draft: Path) -> None:
        prepare(experiment("vllm", spec=drafted_by(draft)), TWO_TURNS)

    def test_sglang_gives_the_draft_the_whole_context(self, draft: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN", raising=False)
        refused(experiment("sglang", spec=drafted_by(draft)), "a request may reach 8192")
        prepare(experiment("sglang", spec=drafted_by(draft), max_seq_len=64), ONE_TURN)
        monkeypatch.setenv("SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN", "1")
        prepare(experiment("sglang", spec=drafted_by(draft)), ONE_TURN)


def test_a_draft_model_s_differing_entries_are_counted(variant: Variant) -> None:
    folder = variant("draft")
    tokenizer = (folder / "tokenizer.json").read_text(encoding="utf-8")
    (folder / "tokenizer.json").write_text(tokenizer.replace("<|pad|>", "<|filler|>"), encoding="utf-8")
    allowed = DraftModelSpec(draft=DraftCheckpoint(path=str(folder), allow_vocabulary_differences=True))
    config = experiment(spec=allowed)
    found = fingerprints(config, prepare(config, ONE_TURN).facts, of_hub=False)
    assert found["draft"].vocabulary_differences == 2
