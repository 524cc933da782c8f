"""Checks a checkpoint's tensors against the shapes in its config.json."""

from pathlib import Path
from typing import Any

from specdec_bench.checkpoints.weights import Weights
from specdec_bench.errors import ConfigError

_LLAMA_LIKE = frozenset(
    (
        "llama",
        "mistral",
        "mixtral",
        "qwen2",
        "qwen3",
        "qwen3_moe",
        "gemma",
        "gemma2",
        "gemma3_text",
        "granite",
        "smollm3",
    )
)
"""Model types whose layers are all alike and named as Llama's. Others are not checked."""

_IN_EVERY_LAYER = "self_attn.q_proj.weight"
_FLOATS = ("F64", "F32", "F16", "BF16")


def check_shapes(folder: Path, config: dict[str, Any], weights: Weights) -> None:
    """Refuses tensors that are certainly missing or of another shape than the configuration gives them.

    Does not check other architectures, quantized weights, or checkpoints with their own code.

    Raises:
        ConfigError: naming file, tensor and both shapes.
    """
    if config.get("model_type") not in _LLAMA_LIKE or config.get("auto_map") or config.get("quantization_config"):
        return
    if not all(name.endswith("ForCausalLM") for name in map(str, config.get("architectures") or [])):
        return
    if any(tensor.dtype not in _FLOATS for tensor in weights.tensors.values()):
        return
    num_layers = config.get("num_hidden_layers")
    if isinstance(num_layers, int) and any(name.startswith("model.layers.") for name in weights.tensors):
        for name in ("model.embed_tokens.weight", *(f"model.layers.{i}.{_IN_EVERY_LAYER}" for i in range(num_layers))):
            if name not in weights.tensors:
                raise ConfigError(
                    f"{folder / weights.files[0]}: tensor {name} is missing, and config.json has num_hidden_layers="
                    f"{num_layers}; complete the download, or the two are of different models"
                )
    expected = _expected_shapes(config)
    for name, tensor in weights.tensors.items():
        part = name.partition("model.layers.")[2].partition(".")[2] if name.startswith("model.layers.") else name
        shape = expected.get(part)
        if shape is not None and tensor.shape != shape:
            raise ConfigError(
                f"{folder / tensor.file}: tensor {name} has the shape {list(tensor.shape)}, and {list(shape)} by "
                "config.json; the two are of different models"
            )


def _expected_shapes(config: dict[str, Any]) -> dict[str, tuple[int, ...]]:
    """Returns shapes by tensor name (within a layer, by the name there), as far as the numbers at hand give them."""
    numbers = {key: value for key, value in config.items() if type(value) is int and value > 0}
    hidden, vocabulary, inner = (numbers.get(key) for key in ("hidden_size", "vocab_size", "intermediate_size"))
    heads = numbers.get("num_attention_heads")
    key_heads = numbers.get("num_key_value_heads") if "num_key_value_heads" in config else heads
    head_size = numbers.get("head_dim") or (hidden // heads if hidden and heads and "head_dim" not in config else None)
    queries = heads * head_size if heads and head_size else None
    keys = key_heads * head_size if key_heads and head_size else None
    shapes: dict[str, tuple[int | None, ...]] = {
        "model.embed_tokens.weight": (vocabulary, hidden),
        "lm_head.weight": (vocabulary, hidden),
        "model.norm.weight": (hidden,),
        "input_layernorm.weight": (hidden,),
        "post_attention_layernorm.weight": (hidden,),
        "self_attn.q_proj.weight": (queries, hidden),
        "self_attn.k_proj.weight": (keys, hidden),
        "self_attn.v_proj.weight": (keys, hidden),
        "self_attn.o_proj.weight": (hidden, queries),
        "mlp.gate_proj.weight": (inner, hidden),
        "mlp.up_proj.weight": (inner, hidden),
        "mlp.down_proj.weight": (hidden, inner),
    }
    return {name: shape for name, shape in shapes.items() if None not in shape}  # type: ignore[misc]
