"""An EAGLE head is not taken for a model of its own, nor a model for a head; what may be either is let pass."""

import json
from pathlib import Path
from typing import Any

import pytest

from specdec_bench.checkpoints.checks import check_checkpoints
from specdec_bench.config.checkpoints import ASSETS
from specdec_bench.config.schema.dataset import DemoDataset
from specdec_bench.config.schema.engine import VLLMEngine
from specdec_bench.config.schema.experiment import OPTIONS, ExperimentConfig
from specdec_bench.config.schema.load import ClosedLoad
from specdec_bench.config.schema.model import DraftCheckpoint, ModelConfig
from specdec_bench.config.schema.sampling import SamplingConfig
from specdec_bench.errors import ConfigError

LLAMA: dict[str, Any] = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 1}
MODEL = ("lm_head.weight", "model.embed_tokens.weight", "model.layers.0.mlp.c_fc.weight", "model.norm.weight")
HEAD = ("fc.weight", "lm_head.weight", "midlayer.hidden_norm.weight", "norm.weight")


def checkpoint(folder: Path, config: dict[str, Any], names: tuple[str, ...] = (), *, index: bool = False) -> Path:
    """Makes a checkpoint of empty tensors of these names."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if index:
        weight_map = dict.fromkeys(names, "model-00001-of-00001.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    if names:
        header = json.dumps({name: {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for name in names}).encode()
        file = "model-00001-of-00001.safetensors" if index else "model.safetensors"
        (folder / file).write_bytes(len(header).to_bytes(8, "little") + header)
    return folder


def check(spec: str, draft: Path | str) -> None:
    check_checkpoints(
        ExperimentConfig(
            engine=VLLMEngine(),
            model=ModelConfig(name="m", path="org/target"),
            dataset=DemoDataset(),
            spec=OPTIONS["spec"][spec](draft=DraftCheckpoint(path=str(draft))),
            load=ClosedLoad(),
            sampling=SamplingConfig(),
        )
    )


@pytest.mark.parametrize(
    ("config", "names", "words"),
    [
        # SpecForge's and SGLang's; vLLM's; the EAGLE authors' older ones for SGLang; P-EAGLE.
        ({"architectures": ["LlamaForCausalLMEagle3"]}, (), "LlamaForCausalLMEagle3.*spec=eagle3"),
        ({"architectures": ["Eagle3DeepseekV2ForCausalLM"]}, (), "Eagle3DeepseekV2ForCausalLM.*spec=eagle3"),
        ({"architectures": ["LlamaForCausalLMEagle"]}, (), "LlamaForCausalLMEagle.*spec=eagle"),
        ({"architectures": ["EagleLlamaForCausalLM"]}, (), "EagleLlamaForCausalLM.*spec=eagle"),
        ({"architectures": ["PEagleDraftModel"]}, (), "PEagleDraftModel.*spec=eagle3"),
        # The speculators format.
        ({"architectures": ["Eagle3Speculator"], "speculators_model_type": "eagle3"}, (), "Eagle3Speculator"),
        ({"speculators_model_type": "eagle3"}, (), "speculators_model_type=eagle3.*spec=eagle3"),
        ({"speculators_model_type": "peagle"}, (), "speculators_model_type=peagle.*spec=eagle3"),
        # The EAGLE authors' own: only the tensors tell.
        (LLAMA | {"draft_vocab_size": 32000}, HEAD, "tensor fc.weight"),
    ],
)
def test_a_head_is_no_draft_model(tmp_path: Path, config: dict[str, Any], names: tuple[str, ...], words: str) -> None:
    folder = checkpoint(tmp_path / "draft", config, names)
    with pytest.raises(ConfigError, match=rf"spec=draft_model: spec\.draft\.path=.*draft is an EAGLE head .*{words}"):
        check("draft_model", folder)
    check("eagle3", folder)
    check("eagle", folder)


@pytest.mark.parametrize("spec", ["eagle", "eagle3"])
@pytest.mark.parametrize("index", [False, True])
def test_a_model_is_no_head(tmp_path: Path, spec: str, index: bool) -> None:
    folder = checkpoint(tmp_path / "draft", LLAMA, MODEL, index=index)
    with pytest.raises(ConfigError, match=rf"spec={spec}: .*draft is a whole model \(LlamaForCausalLM\).*draft_model"):
        check(spec, folder)
    check("draft_model", folder)


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (LLAMA, ()),  # weights that are no safetensors
        (LLAMA, HEAD),  # a head that its config does not tell
        (LLAMA, ("model.fc.weight", "model.layers.0.mlp.up_proj.weight")),
        (LLAMA | {"draft_vocab_size": 32000}, MODEL),
        (LLAMA | {"eagle_config": {"use_aux_hidden_state": False}}, MODEL),  # NVIDIA's without aux hidden states
        ({"architectures": ["LlamaForCausalLMEagle3"]}, MODEL),
        ({}, MODEL),
    ],
)
def test_what_may_be_a_head_is_let_pass(tmp_path: Path, config: dict[str, Any], names: tuple[str, ...]) -> None:
    check("eagle3", checkpoint(tmp_path / "draft", config, names))


@pytest.mark.parametrize(
    ("config", "names"),
    [
        (LLAMA, MODEL),
        (LLAMA, ()),
        ({"architectures": ["Eagle2_5_VLForConditionalGeneration"]}, MODEL),  # a model of that name, no head
        ({}, ()),
    ],
)
def test_what_may_be_a_model_is_let_pass(tmp_path: Path, config: dict[str, Any], names: tuple[str, ...]) -> None:
    check("draft_model", checkpoint(tmp_path / "draft", config, names))


def test_the_bundled_ones_are_told_apart() -> None:
    check("eagle3", ASSETS / "tiny" / "eagle3")
    check("draft_model", ASSETS / "tiny" / "draft")
    with pytest.raises(ConfigError, match="is an EAGLE head"):
        check("draft_model", "bundled:tiny/eagle3")
    with pytest.raises(ConfigError, match="is a whole model"):
        check("eagle3", "bundled:tiny/draft")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has no safetensors header"),
        (b"\x00" * 4, "has no safetensors header"),
        ((1 << 60).to_bytes(8, "little"), "has no safetensors header"),
        ((4).to_bytes(8, "little") + b"no j", "is not JSON"),
        ((4).to_bytes(8, "little") + b"[{}]", "is not a JSON object"),
    ],
)
def test_a_broken_file_is_named(tmp_path: Path, content: bytes, words: str) -> None:
    (checkpoint(tmp_path / "draft", LLAMA) / "model.safetensors").write_bytes(content)
    for spec in ("eagle3", "draft_model"):
        with pytest.raises(ConfigError, match=rf"draft/model\.safetensors: .*{words}"):
            check(spec, tmp_path / "draft")


def test_hub_ids_are_left_to_the_engine() -> None:
    check("draft_model", "yuhuili/EAGLE3-LLaMA3.3-Instruct-70B")
    check("eagle3", "meta-llama/Llama-3.2-1B-Instruct")
