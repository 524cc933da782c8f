"""What a drafter of the right kind cannot do is refused: more tokens than it drafts, drafting in parallel untrained."""

from pathlib import Path
from typing import Any

import pytest

from specdec_bench.checkpoints.checks import check_checkpoints
from specdec_bench.config.schema.engine import SGLangEngine, TensorRTLLMEngine, VLLMEngine, VLLMServerEngine
from specdec_bench.config.schema.model import DraftCheckpoint, ModelConfig
from specdec_bench.config.schema.spec import MTPSpec, NoSpec, SpecConfig
from specdec_bench.errors import ConfigError
from tests.helpers import build
from tests.unit.checkpoints.test_drafter_kinds import LLAMA, MODEL, check, checkpoint


@pytest.mark.parametrize(
    ("spec", "config", "names", "most"),
    [
        ("medusa", {"num_heads": 4}, (), 4),
        ("medusa", {"medusa_num_heads": 5}, (), 5),
        # The tensors count, whatever config.json says.
        ("medusa", {"num_heads": 9}, ("blocks.0.layers.0.weight", "blocks.1.layers.0.weight", "lm_head.weight"), 2),
        ("medusa", {}, ("0.0.linear.weight", "0.1.weight", "1.0.linear.weight", "1.1.weight"), 2),
        ("dflash", {"architectures": ["DFlashDraftModel"], "block_size": 8}, (), 7),
        ("dflash", {"dflash_config": {"block_size": 16}, "block_size": 8}, (), 15),
        ("dspark", {"architectures": ["Qwen3DSparkModel"], "block_size": 7}, (), 7),
    ],
)
def test_no_more_tokens_are_drafted_than_there_are_heads_or_places(
    tmp_path: Path, spec: str, config: dict[str, Any], names: tuple[str, ...], most: int
) -> None:
    folder = checkpoint(tmp_path / "draft", config, names)
    check(spec, folder, draft_length=most)
    words = rf"spec\.draft_length={most + 1}: .*draft .*; pass at most spec\.draft_length={most}$"
    for engine in (VLLMEngine(), VLLMServerEngine(), SGLangEngine()):
        with pytest.raises(ConfigError, match=words):
            check(spec, folder, engine, draft_length=most + 1)


def test_a_drafter_that_states_no_limit_has_none(tmp_path: Path) -> None:
    check("medusa", checkpoint(tmp_path / "medusa", {"architectures": ["MedusaModel"]}), draft_length=30)
    check("dflash", checkpoint(tmp_path / "dflash", {"architectures": ["DFlashDraftModel"]}), draft_length=30)


@pytest.mark.parametrize("key", ["mask_token_id", "pard_token", "ptd_token_id", "dspark_noise_token_id"])
def test_a_mask_token_makes_a_model_draft_in_parallel(tmp_path: Path, key: str) -> None:
    folder = checkpoint(tmp_path / "draft", LLAMA | {key: 2}, MODEL)
    check("draft_model", folder, parallel_drafting=True)
    check("draft_model", folder, TensorRTLLMEngine(), parallel_drafting=True)


@pytest.mark.parametrize(
    ("spec", "config", "names", "words"),
    [
        ("draft_model", LLAMA, MODEL, r"a whole model \(.*names no mask token .*PARD"),
        ("draft_model", LLAMA | {"pard_token": None}, MODEL, "names no mask token"),
        ("draft_model", LLAMA, (), "is a draft, not trained for it: its config.json names no mask token"),
        ("eagle3", {"architectures": ["LlamaForCausalLMEagle3"]}, (), "an EAGLE-3 head .*no mask token .*P-EAGLE"),
        # vLLM needs a hidden state for masked positions too.
        (
            "eagle3",
            {"architectures": ["LlamaForCausalLMEagle3"], "ptd_token_id": 2},
            ("fc.weight", "midlayer.hidden_norm.weight"),
            "an EAGLE-3 head .*no tensor mask_hidden",
        ),
    ],
)
def test_parallel_drafting_needs_a_drafter_trained_for_it(
    tmp_path: Path, spec: str, config: dict[str, Any], names: tuple[str, ...], words: str
) -> None:
    folder = checkpoint(tmp_path / "draft", config, names)
    with pytest.raises(ConfigError, match=rf"spec\.parallel_drafting=true: spec\.draft\.path=.*{words}"):
        check(spec, folder, parallel_drafting=True)
    check(spec, folder)


def check_target(path: Path | str, spec: SpecConfig | None = None) -> None:
    check_checkpoints(
        build.experiment(engine=VLLMEngine(), model=ModelConfig(name="m", path=str(path)), spec=spec or NoSpec())
    )


@pytest.mark.parametrize(
    ("config", "title"),
    [
        # vLLM would run the target that the drafter names, and draft, under the name of plain decoding.
        ({"speculators_model_type": "eagle3", "speculators_config": {}}, "an EAGLE-3 head"),
        ({"architectures": ["DFlashDraftModel"]}, "a DFlash drafter"),
    ],
)
def test_a_drafter_is_no_target(tmp_path: Path, config: dict[str, Any], title: str) -> None:
    with pytest.raises(ConfigError, match=rf"model\.path=.* is {title} .*pass it as spec\.draft\.path"):
        check_target(checkpoint(tmp_path / "target", config))


def test_a_model_trained_for_parallel_drafting_may_be_a_target() -> None:
    check_target("bundled:tiny/pard")


def test_mtp_needs_a_target_with_such_layers(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"spec=mtp: model\.path=bundled:tiny/target has no multi-token-prediction"):
        check_target("bundled:tiny/target", MTPSpec())
    check_target(checkpoint(tmp_path / "stated", LLAMA | {"num_nextn_predict_layers": 1}, MODEL), MTPSpec())
    check_target(checkpoint(tmp_path / "named", LLAMA, (*MODEL, "model.mtp_layers.0.input_proj.weight")), MTPSpec())
    check_target(checkpoint(tmp_path / "unknown", LLAMA), MTPSpec())


def test_the_layers_for_mtp_may_be_in_a_model_or_in_a_checkpoint_of_their_own(tmp_path: Path) -> None:
    model = LLAMA | {"num_nextn_predict_layers": 1}
    check_target("org/target", MTPSpec(draft=DraftCheckpoint(path=str(checkpoint(tmp_path / "model", model, MODEL)))))
    alone = checkpoint(tmp_path / "alone", {"model_type": "minimax_m3_mtp"}, ("mtp.0.eh_proj.weight",))
    check_target("org/target", MTPSpec(draft=DraftCheckpoint(path=str(alone))))
    with pytest.raises(ConfigError, match=r"a set of multi-token-prediction layers .* without their model"):
        check_target("org/target", MTPSpec(draft=DraftCheckpoint(path="bundled:tiny/mtp")))
