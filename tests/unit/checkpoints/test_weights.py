"""Headers of safetensors files: what is read, and what the library could not load is refused, the tensor named."""

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors import SafetensorError, safe_open

from specdec_bench.checkpoints.shapes import check_shapes
from specdec_bench.checkpoints.weights import Tensor, read_weights
from specdec_bench.config.checkpoints import ASSETS
from specdec_bench.errors import ConfigError
from tests.helpers.checkpoint_folders import safetensors, with_header, write_json

ONE = {"a": ("F32", [2, 3]), "b": ("BF16", [4])}


def entry(**changes: Any) -> dict[str, Any]:
    return {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | changes


def test_names_shapes_and_types(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").write_bytes(safetensors(ONE))
    weights = read_weights(tmp_path)
    assert weights is not None
    assert weights.tensors == {
        "a": Tensor("model.safetensors", "F32", (2, 3)),
        "b": Tensor("model.safetensors", "BF16", (4,)),
    }
    summary = weights.summary()
    assert (summary["num_tensors"], summary["num_elements"]) == (2, 10)
    assert summary["dtypes"] == {"BF16": 1, "F32": 1}
    assert summary["files"] == ["model.safetensors"]


def test_weights_in_several_files(tmp_path: Path) -> None:
    write_json(tmp_path / "model.safetensors.index.json", {"weight_map": {"a": "1.safetensors", "b": "2.safetensors"}})
    (tmp_path / "1.safetensors").write_bytes(safetensors({"a": ONE["a"]}))
    with pytest.raises(ConfigError, match=r"2\.safetensors: no such file; by model\.\S* it has tensor b"):
        read_weights(tmp_path)
    (tmp_path / "2.safetensors").write_bytes(safetensors({"c": ONE["b"]}))
    with pytest.raises(ConfigError, match=r"2\.safetensors: lacks tensor b"):
        read_weights(tmp_path)
    (tmp_path / "2.safetensors").write_bytes(safetensors({"b": ONE["b"]}))
    (tmp_path / "other.safetensors").write_bytes(b"of no concern")
    weights = read_weights(tmp_path)
    assert weights is not None
    assert {name: tensor.file for name, tensor in weights.tensors.items()} == {
        "a": "1.safetensors",
        "b": "2.safetensors",
    }


@pytest.mark.parametrize("index", [{}, {"weight_map": []}, {"weight_map": {"a": 1}}])
def test_a_broken_index_is_named(tmp_path: Path, index: dict[str, Any]) -> None:
    write_json(tmp_path / "model.safetensors.index.json", index)
    with pytest.raises(ConfigError, match=r"model\.safetensors\.index\.json: has no weight_map"):
        read_weights(tmp_path)


def test_other_formats_are_weights_too_and_a_trainer_s_files_are_none(tmp_path: Path) -> None:
    assert read_weights(tmp_path) is None
    for name in ("training_args.bin", "optimizer.pt", "tokenizer.model", "README.md"):
        (tmp_path / name).touch()
    assert read_weights(tmp_path) is None
    (tmp_path / "pytorch_model.bin").touch()
    weights = read_weights(tmp_path)
    assert weights is not None
    assert (weights.files, weights.tensors) == (("pytorch_model.bin",), {})
    assert weights.summary()["tensors_sha256"] is None


def header(**tensors: Any) -> bytes:
    return json.dumps(tensors).encode()


DAMAGED = {
    "empty": (b"", "has no safetensors header"),
    "text": (b"not weights", "has no safetensors header"),
    "a length beyond the file": ((10**6).to_bytes(8, "little") + b"{}", "has no safetensors header"),
    "no JSON": (with_header(b"{,}", 0), "is not JSON"),
    "not UTF-8": (with_header(b'{"\xff": 1}', 0), "is not JSON"),
    "a list": (with_header(b"[]", 0), "is not a JSON object"),
    "cut off": (with_header(header(a=entry()), 3), r"cut off within tensor a \(.* of .* bytes\)"),
    "bytes too many": (with_header(header(a=entry()), 5), "has 1 bytes beyond its last tensor"),
    "an unknown type": (with_header(header(a=entry(dtype="F33")), 4), "tensor a is of the unknown type F33"),
    "a type that is none": (with_header(header(a=entry(dtype=[])), 4), "tensor a "),
    "another size": (with_header(header(a=entry(shape=[2])), 4), r"tensor a \(F32 \[2\]\) does not fill its place"),
    "a hole": (with_header(header(a=entry(data_offsets=[4, 8])), 8), "tensor a .* does not fill its place"),
    "an overlap": (with_header(header(a=entry(), b=entry()), 4), "tensor b .* does not fill its place"),
    "a negative shape": (with_header(header(a=entry(shape=[-1])), 4), "tensor a has no type, shape and place"),
    "no place": (with_header(header(a={"dtype": "F32", "shape": [1]}), 4), "tensor a has no type, shape and place"),
    "no entry": (with_header(header(a=7), 0), "tensor a has no type, shape and place"),
}


@pytest.mark.parametrize(("content", "words"), DAMAGED.values(), ids=DAMAGED)
def test_what_safetensors_cannot_load_is_refused(tmp_path: Path, content: bytes, words: str) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(SafetensorError):
        safe_open(path, "np")
    with pytest.raises(ConfigError, match=rf"model\.safetensors: .*{words}") as caught:
        read_weights(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "content",
    [
        safetensors(ONE),
        safetensors({}),
        safetensors({"scalar": ("F32", [])}),
        safetensors({"none": ("F32", [0, 5]), "a": ("I8", [1])}),
        with_header(header(__metadata__={"format": "pt"}, a=entry()) + b"   ", 4),
        with_header(header(a=entry(dtype="F4", shape=[8])), 4),
        with_header(header(b=entry(data_offsets=[4, 8]), a=entry()), 8),
    ],
)
def test_what_safetensors_loads_is_taken(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    names = set(safe_open(path, "np").keys())
    weights = read_weights(tmp_path)
    assert weights is not None
    assert set(weights.tensors) == names


# ---------------------------------------------------------------- shapes

LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "vocab_size": 20,
    "hidden_size": 8,
    "intermediate_size": 12,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
}
TENSORS: dict[str, list[int]] = {
    "model.embed_tokens.weight": [20, 8],
    "lm_head.weight": [20, 8],
    "model.norm.weight": [8],
    "model.layers.11.input_layernorm.weight": [8],
    "model.layers.0.self_attn.q_proj.weight": [8, 8],
    "model.layers.0.self_attn.k_proj.weight": [4, 8],
    "model.layers.0.self_attn.v_proj.weight": [4, 8],
    "model.layers.0.self_attn.o_proj.weight": [8, 8],
    "model.layers.0.mlp.gate_proj.weight": [12, 8],
    "model.layers.0.mlp.down_proj.weight": [8, 12],
}


def shapes(folder: Path, config: dict[str, Any], dtype: str = "BF16", **changes: list[int]) -> None:
    tensors = {name: (dtype, shape) for name, shape in (TENSORS | changes).items()}
    (folder / "model.safetensors").write_bytes(safetensors(tensors))
    weights = read_weights(folder)
    assert weights is not None
    check_shapes(folder, config, weights)


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_of_another_shape_than_the_configuration_s_is_named(tmp_path: Path, name: str) -> None:
    shapes(tmp_path, LLAMA)
    wrong = [TENSORS[name][0] + 1, *TENSORS[name][1:]]
    with pytest.raises(ConfigError, match=rf"model\.safetensors: tensor {name} has the shape .*{wrong[0]}.* by config"):
        shapes(tmp_path, LLAMA, **{name: wrong})


def test_a_head_size_of_its_own_counts(tmp_path: Path) -> None:
    wider = {
        "model.layers.0.self_attn.q_proj.weight": [64, 8],
        "model.layers.0.self_attn.k_proj.weight": [32, 8],
        "model.layers.0.self_attn.v_proj.weight": [32, 8],
        "model.layers.0.self_attn.o_proj.weight": [8, 64],
    }
    shapes(tmp_path, LLAMA | {"head_dim": 16}, **wider)
    with pytest.raises(ConfigError, match="q_proj"):
        shapes(tmp_path, LLAMA, **wider)


@pytest.mark.parametrize(
    "changes",
    [
        {"model_type": "mamba"},
        {"model_type": "qwen3_next"},
        {"architectures": ["LlamaForCausalLMEagle3"]},
        {"quantization_config": {"quant_method": "awq"}},
        {"auto_map": {"AutoModelForCausalLM": "own.Code"}},
        {"hidden_size": None},
    ],
)
def test_of_what_is_not_certain_nothing_is_said(tmp_path: Path, changes: dict[str, Any]) -> None:
    shapes(tmp_path, LLAMA | changes, **{"model.norm.weight": [9]})


def test_a_tensor_that_is_missing_is_named(tmp_path: Path) -> None:
    shapes(tmp_path, LLAMA | {"num_hidden_layers": 1})
    with pytest.raises(ConfigError, match=r"tensor model\.layers\.1\.self_attn\.q_proj\.weight is missing, .*layers=2"):
        shapes(tmp_path, LLAMA | {"num_hidden_layers": 2})
    shapes(tmp_path, LLAMA | {"num_hidden_layers": 2}, dtype="I8")  # packed: its tensors have other names


def test_packed_integers_have_shapes_of_their_own(tmp_path: Path) -> None:
    shapes(tmp_path, LLAMA, dtype="I8", **{"model.norm.weight": [9]})


@pytest.mark.parametrize("name", ["target", "draft", "eagle3"])
def test_the_bundled_ones_are_what_their_configurations_say(name: str) -> None:
    folder = ASSETS / "tiny" / name
    weights = read_weights(folder)
    assert weights is not None
    check_shapes(folder, json.loads((folder / "config.json").read_text()), weights)
