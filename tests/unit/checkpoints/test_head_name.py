"""EAGLE heads that are named like a plain model, for an engine that knows heads by their names."""

import json
from pathlib import Path
from typing import Any

import pytest

from specdec_bench.checkpoints.head_name import check_head, head_name, named_head
from specdec_bench.config.checkpoints import resolve
from specdec_bench.config.schema.engine import SGLangEngine, TensorRTLLMEngine, VLLMEngine
from specdec_bench.config.schema.spec import DraftModelSpec, Eagle3Spec, EagleSpec, SpecConfig
from specdec_bench.engines.sglang.arguments import engine_arguments
from specdec_bench.errors import ConfigError
from tests.helpers import build
from tests.unit.checkpoints.test_drafter_kinds import LLAMA, check, checkpoint

HEAD = ("fc.weight", "fc.bias", "layers.0.self_attn.q_proj.weight")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return tmp_path / "hf" / "specdec_bench" / "heads"


@pytest.mark.parametrize(
    ("spec", "architectures", "expected"),
    [
        (EagleSpec(), ["LlamaForCausalLM"], "LlamaForCausalLMEagle"),
        (Eagle3Spec(), ["Qwen3ForCausalLM"], "Qwen3ForCausalLMEagle3"),
        (EagleSpec(), ["LlamaForCausalLMEagle"], None),
        (Eagle3Spec(), ["LlamaForCausalLMEagle3"], None),
        (EagleSpec(), ["EagleDeepSeekMTPModel"], None),
        (EagleSpec(), None, None),
        (DraftModelSpec(), ["LlamaForCausalLM"], None),
    ],
)
def test_only_a_head_named_like_a_plain_model_gets_a_name(
    spec: SpecConfig, architectures: list[str] | None, expected: str | None
) -> None:
    assert head_name(spec, {"architectures": architectures}) == expected


def test_the_folder_of_the_named_head_has_links_and_its_own_config(tmp_path: Path, cache: Path) -> None:
    folder = checkpoint(tmp_path / "head", LLAMA, HEAD)
    made = named_head(folder, EagleSpec())
    assert made.parent == cache
    assert {path.name for path in made.iterdir()} == {path.name for path in folder.iterdir()}
    stated: dict[str, Any] = json.loads((made / "config.json").read_text())
    assert stated == LLAMA | {"architectures": ["LlamaForCausalLMEagle"]}
    assert (made / "model.safetensors").readlink() == folder / "model.safetensors"
    assert json.loads((folder / "config.json").read_text()) == LLAMA, "the user's folder stays as it is"
    assert [path.name for path in cache.iterdir()] == [made.name], "nothing temporary is left"
    assert named_head(folder, EagleSpec()) == made
    assert named_head(folder, Eagle3Spec()) != made
    assert named_head(made, EagleSpec()) == made


def test_sglang_gets_the_bundled_head_under_its_name(cache: Path) -> None:
    config = build.experiment(engine=SGLangEngine(), spec=EagleSpec())
    config.spec.draft.path = "bundled:tiny/eagle"  # type: ignore[attr-defined]
    known = [*("model_path", "speculative_algorithm", "speculative_num_draft_tokens", "speculative_num_steps")]
    path = Path(engine_arguments(config, AnyName(known), ["EAGLE"])["speculative_draft_model_path"])
    assert path.parent == cache
    assert (path / "model.safetensors").samefile(Path(resolve("bundled:tiny/eagle")) / "model.safetensors")
    sglangs = json.loads((Path(resolve("bundled:tiny/eagle")) / "config.sglang.json").read_text())
    assert json.loads((path / "config.json").read_text()) == sglangs


class AnyName(list[str]):
    """A release that has every argument."""

    def __contains__(self, _: object) -> bool:
        return True


def test_a_head_of_the_hub_is_refused_where_it_would_be_loaded_as_a_plain_model(tmp_path: Path) -> None:
    """SGLang 0.5.20 runs it, and accepts nothing."""
    with pytest.raises(ConfigError, match=r"is named LlamaForCausalLM, which engine=sglang loads .*download it"):
        check_head(EagleSpec(), "org/head", LLAMA, (), "sglang", is_folder=False)
    check_head(
        EagleSpec(), "org/head", LLAMA | {"architectures": ["LlamaForCausalLMEagle"]}, (), "sglang", is_folder=False
    )


def test_a_head_without_the_bias_that_sglang_gives_it_is_refused(tmp_path: Path) -> None:
    words = r"has no tensor fc\.bias, which engine=sglang fills with random numbers"
    without = tuple(name for name in HEAD if name != "fc.bias")
    for number, config in enumerate((LLAMA, LLAMA | {"architectures": ["LlamaForCausalLMEagle"]})):
        folder = checkpoint(tmp_path / f"head{number}", config, without)
        with pytest.raises(ConfigError, match=words):
            check("eagle", folder, SGLangEngine())
        check("eagle", folder, VLLMEngine())
        check("eagle", folder, TensorRTLLMEngine())
    check("eagle", checkpoint(tmp_path / "whole", LLAMA, HEAD), SGLangEngine())
    check("eagle", "bundled:tiny/eagle", SGLangEngine())
    check(
        "eagle3", checkpoint(tmp_path / "eagle3", LLAMA, ("fc.weight", "midlayer.hidden_norm.weight")), SGLangEngine()
    )
