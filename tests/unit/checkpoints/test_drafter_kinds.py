"""A drafter of one kind is not taken for one of another; what is not recognized is let pass."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from specdec_bench.checkpoints.checks import check_checkpoints
from specdec_bench.config.schema.engine import EngineConfig, VLLMEngine
from specdec_bench.config.schema.experiment import OPTIONS
from specdec_bench.config.schema.model import DraftCheckpoint, ModelConfig
from specdec_bench.errors import ConfigError
from tests.helpers import build

LLAMA: dict[str, Any] = {"architectures": ["LlamaForCausalLM"], "model_type": "llama", "num_hidden_layers": 1}
MODEL = ("lm_head.weight", "model.embed_tokens.weight", "model.layers.0.mlp.c_fc.weight", "model.norm.weight")
HEAD = ("fc.weight", "lm_head.weight", "midlayer.hidden_norm.weight", "norm.weight")

METHODS = ("draft_model", "eagle", "eagle3", "mtp", "medusa", "dflash", "dspark")

BUNDLED = """
drafter  draft_model eagle eagle3 mtp medusa dflash dspark draft_model+ eagle3+ refused as
draft    yes         -     -      -   -      -      -      -            -       a whole model
pard     yes         -     -      -   -      -      -      yes          -       a PARD drafter
eagle    -           yes   -      -   -      -      -      -            -       an EAGLE-1 head
eagle3   -           -     yes    -   -      -      -      -            -       an EAGLE-3 head
peagle   -           -     yes    -   -      -      -      -            yes     a P-EAGLE head
mtp      -           -     -      -   -      -      -      -            -       a set of multi-token-prediction layers
medusa   -           -     -      -   yes    -      -      -            -       a set of Medusa heads
dflash   -           -     -      -   -      yes    -      -            -       a DFlash drafter
dspark   -           -     -      -   -      -      yes    -            -       a DSpark drafter
"""
"""Which bundled drafter goes with which method; + is spec.parallel_drafting=true. Layers for mtp alone are no draft."""


def bundled_cells() -> list[tuple[str, str, bool, bool, str]]:
    """Returns folder, method, whether drafting is parallel, whether it is taken, and the folder's title."""
    _, header, *lines = BUNDLED.rstrip().split("\n")
    columns = header.split()[1:-2]
    cells = []
    for line in lines:
        folder, *marks = line.split(maxsplit=len(columns) + 1)
        for column, mark in zip(columns, marks, strict=False):
            cells.append((folder, column.rstrip("+"), column.endswith("+"), mark == "yes", marks[-1]))
    return cells


def checkpoint(
    folder: Path,
    config: dict[str, Any],
    names: Sequence[str] = (),
    *,
    index: bool = False,
    shapes: dict[str, list[int]] | None = None,
) -> Path:
    """Makes a checkpoint of tensors of these names, with data only if they have a shape."""
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if index:
        weight_map = dict.fromkeys(names, "model-00001-of-00001.safetensors")
        (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    if names:
        header, end = {}, 0
        for name in names:
            shape = (shapes or {}).get(name, [0])
            size = 4 * shape[0] * (shape[1] if len(shape) > 1 else 1)
            header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end := end + size]}
        encoded = json.dumps(header).encode()
        file = "model-00001-of-00001.safetensors" if index else "model.safetensors"
        (folder / file).write_bytes(len(encoded).to_bytes(8, "little") + encoded + bytes(end))
    return folder


def check(spec: str, draft: Path | str | None, engine: EngineConfig | None = None, **fields: Any) -> None:
    check_checkpoints(
        build.experiment(
            engine=engine or VLLMEngine(),
            model=ModelConfig(name="m", path="org/target"),
            spec=OPTIONS["spec"][spec](draft=DraftCheckpoint(path=None if draft is None else str(draft)), **fields),
        )
    )


@pytest.mark.parametrize(("folder", "method", "is_parallel", "is_taken", "title"), bundled_cells())
def test_bundled_drafters_go_with_their_methods_alone(
    folder: str, method: str, is_parallel: bool, is_taken: bool, title: str
) -> None:
    fields = {"parallel_drafting": True} if is_parallel else {}
    if is_taken:
        check(method, f"bundled:tiny/{folder}", **fields)
        return
    with pytest.raises(ConfigError, match=rf"spec\.draft\.path=bundled:tiny/{folder} is {title}") as refused:
        check(method, f"bundled:tiny/{folder}", **fields)
    assert "\n" not in str(refused.value)


def test_the_matrix_is_whole() -> None:
    assert len(bundled_cells()) == 9 * (len(METHODS) + 2)
    assert sum(is_taken for *_, is_taken, _ in bundled_cells()) == 10


@pytest.mark.parametrize(
    ("config", "names", "title", "methods"),
    [
        # SpecForge's and SGLang's names; vLLM's; SGLang's for EAGLE-1; vLLM's for MTP models' EAGLE heads.
        ({"architectures": ["LlamaForCausalLMEagle3"]}, (), "an EAGLE-3 head", "eagle3"),
        ({"architectures": ["Eagle3DeepseekV2ForCausalLM"]}, (), "an EAGLE-3 head", "eagle3"),
        ({"architectures": ["LlamaForCausalLMEagle"]}, (), "an EAGLE-1 head", "eagle"),
        ({"architectures": ["EagleLlamaForCausalLM"]}, (), "an EAGLE-1 head", "eagle"),
        ({"architectures": ["EagleDeepSeekMTPModel"]}, (), "an EAGLE-1 head", "eagle"),
        ({"architectures": ["PEagleDraftModel"]}, (), "a P-EAGLE head", "eagle3"),
        ({"architectures": ["LlamaForCausalLMEagle3"], "ptd_token_id": 2}, (), "a P-EAGLE head", "eagle3"),
        # The speculators format.
        ({"architectures": ["Eagle3Speculator"], "speculators_model_type": "eagle3"}, (), "an EAGLE-3 head", "eagle3"),
        ({"speculators_model_type": "peagle"}, (), "a P-EAGLE head", "eagle3"),
        ({"speculators_model_type": "dflash", "block_size": 8}, (), "a DFlash drafter", "dflash"),
        ({"speculators_model_type": "dspark"}, (), "a DSpark drafter", "dspark"),
        # The EAGLE authors' own call themselves plain models: only the tensors tell.
        (LLAMA | {"draft_vocab_size": 32000}, HEAD, "an EAGLE-3 head", "eagle3"),
        (LLAMA, ("fc.weight", "layers.0.mlp.up_proj.weight"), "an EAGLE head", "eagle eagle3"),
        (LLAMA, ("model.fc.weight", "model.layers.0.mlp.up_proj.weight"), "an EAGLE head", "eagle eagle3"),
        # NVIDIA's without auxiliary hidden states.
        (LLAMA | {"eagle_config": {"use_aux_hidden_state": False}}, MODEL, "an EAGLE head", "eagle eagle3"),
        # z-lab's DFlash, and others of its kind.
        ({"architectures": ["DFlashDraftModel"], "block_size": 16}, (), "a DFlash drafter", "dflash"),
        ({"architectures": ["DFlash2DraftModel"]}, (), "a DFlash drafter", "dflash"),
        ({"architectures": ["Qwen3ForCausalLM"], "dflash_config": {"mask_token_id": 9}}, (), "a DFlash", "dflash"),
        (
            {"architectures": ["Qwen3DSparkModel"], "dflash_config": {"mask_token_id": 9}},
            (),
            "a DSpark drafter",
            "dspark",
        ),
        # Medusa's authors' config.json has no architectures; vLLM's conversions have.
        ({"medusa_num_heads": 5, "medusa_num_layers": 1}, (), "a set of Medusa heads", "medusa"),
        ({"model_type": "medusa", "num_heads": 5}, (), "a set of Medusa heads", "medusa"),
        ({}, tuple(f"{head}.0.linear.weight" for head in range(3)), "a set of Medusa heads", "medusa"),
        ({}, tuple(f"blocks.{head}.layers.0.weight" for head in range(3)), "a set of Medusa heads", "medusa"),
        # AMD's PARD.
        (LLAMA | {"pard_token": 128256}, (), "a PARD drafter", "draft_model"),
        (LLAMA | {"mask_token_id": 9}, MODEL, "a PARD drafter", "draft_model"),
        # Multi-token-prediction layers as checkpoints of their own.
        ({"architectures": ["DeepSeekMTPModel"], "model_type": "deepseek_mtp"}, (), "a set of multi-token", "mtp"),
        ({"architectures": ["DeepseekV3ForCausalLMNextN"]}, (), "a set of multi-token", "mtp"),
        ({"model_type": "gemma4_assistant"}, (), "a set of multi-token", "mtp"),
        ({"architectures": ["MLPSpeculatorPreTrainedModel"]}, (), "an MLP speculator", ""),
        (LLAMA, MODEL, "a whole model", "draft_model"),
    ],
)
def test_a_recognized_kind_is_taken_by_its_methods_alone(
    tmp_path: Path, config: dict[str, Any], names: Sequence[str], title: str, methods: str
) -> None:
    folder = checkpoint(tmp_path / "draft", config, names)
    for method in METHODS:
        if method in methods.split():
            check(method, folder)
        else:
            with pytest.raises(ConfigError, match=rf"spec={method}: spec\.draft\.path=.*draft is {title}"):
                check(method, folder)


@pytest.mark.parametrize(
    ("config", "names"),
    [
        ({}, ()),
        ({}, MODEL),
        (LLAMA, ()),  # weights that are no safetensors, as of the EAGLE authors
        (LLAMA | {"draft_vocab_size": 32000}, MODEL),
        ({"architectures": ["NewDrafterOfNextYear"]}, ("drafter.weight",)),
        ({"architectures": ["Eagle2_5_VLForConditionalGeneration"]}, MODEL),  # a model of that name, no head
        ({"architectures": ["Qwen3VLForConditionalGeneration"]}, MODEL),
    ],
)
def test_an_unknown_kind_is_let_pass(tmp_path: Path, config: dict[str, Any], names: Sequence[str]) -> None:
    folder = checkpoint(tmp_path / "draft", config, names)
    for method in METHODS:
        check(method, folder)


@pytest.mark.parametrize(
    ("inputs", "title"), [(8, "an EAGLE-1 head"), (12, "an EAGLE-3 head"), (20, "an EAGLE-3 head")]
)
def test_the_width_of_the_fusing_layer_tells_the_generation(tmp_path: Path, inputs: int, title: str) -> None:
    """EAGLE-1 fuses an embedding and one state of 4 numbers each; EAGLE-3 three states or more."""
    names = ("fc.weight", "layers.0.mlp.up_proj.weight")
    folder = checkpoint(tmp_path / "draft", LLAMA | {"hidden_size": 4}, names, shapes={"fc.weight": [4, inputs]})
    with pytest.raises(ConfigError, match=f"is {title} \\(tensor fc.weight\\)"):
        check("draft_model", folder)


@pytest.mark.parametrize("spec", ["eagle", "eagle3"])
@pytest.mark.parametrize("index", [False, True])
def test_a_model_is_no_head(tmp_path: Path, spec: str, index: bool) -> None:
    folder = checkpoint(tmp_path / "draft", LLAMA, MODEL, index=index)
    with pytest.raises(
        ConfigError, match=rf"spec={spec}: .*a whole model \(architecture LlamaForCausalLM\).*draft_model"
    ):
        check(spec, folder)
    check("draft_model", folder)


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
