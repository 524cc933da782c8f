"""Says which kind of drafter a checkpoint is, from its config.json and the names and shapes of its tensors.

`architectures` alone does not decide: an EAGLE-1 head, a PARD drafter and a plain model may all state LlamaForCausalLM.
The signs are those by which vLLM 0.32 and SGLang 0.5.20 choose a drafter's class, and tensors that only one kind has.

Source: vLLM's config/speculative.py, transformers_utils/configs/ and model_executor/models/.
"""

import json
import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from specdec_bench.checkpoints.facts import language_config
from specdec_bench.checkpoints.weights import Tensor

Kind = Literal[
    "model", "pard", "eagle_1_or_3", "eagle", "eagle3", "peagle", "medusa", "dflash", "mtp", "dspark", "mlp_speculator"
]


class Description(NamedTuple):
    """What a kind is called, and which methods draft with it."""

    title: str
    methods: tuple[str, ...]


KINDS: Mapping[Kind, Description] = {
    "model": Description("a whole model", ("draft_model",)),
    "pard": Description("a PARD drafter", ("draft_model",)),
    "eagle_1_or_3": Description("an EAGLE head", ("eagle", "eagle3")),
    "eagle": Description("an EAGLE-1 head", ("eagle",)),
    "eagle3": Description("an EAGLE-3 head", ("eagle3",)),
    "peagle": Description("a P-EAGLE head", ("eagle3",)),
    "medusa": Description("a set of Medusa heads", ("medusa",)),
    "dflash": Description("a DFlash drafter", ("dflash",)),
    "mtp": Description("a set of multi-token-prediction layers", ("mtp",)),
    "dspark": Description("a DSpark drafter", ("dspark",)),
    "mlp_speculator": Description("an MLP speculator", ()),
}

WHOLE_MODELS: tuple[Kind, ...] = ("model", "pard")
"""Kinds that could be a target too."""


class Drafter(NamedTuple):
    """A recognized drafter."""

    kind: Kind
    sign: str
    """The evidence: an architecture, a key of config.json, or a tensor."""


MASK_KEYS = ("mask_token_id", "dspark_noise_token_id", "pard_token", "ptd_token_id")
"""Keys of config.json for the token that stands at positions to be drafted, in vLLM's order."""

_FORMATS: Mapping[str, Kind] = {
    "eagle": "eagle",
    "eagle3": "eagle3",
    "peagle": "peagle",
    "dflash": "dflash",
    "dflash2": "dflash",
    "dspark": "dspark",
    "mlp_speculator": "mlp_speculator",
}
"""By `speculators_model_type`, which checkpoints of the speculators library state."""

_ARCHITECTURES: tuple[tuple[str, Kind], ...] = (
    (r"DSpark", "dspark"),
    (r"^DFlash|DFlash$|^LiLiCorrDraftModel$|^MuseGlimmerAssistantModel$", "dflash"),
    (r"^MLPSpeculator", "mlp_speculator"),
    (r"^Medusa", "medusa"),
    (r"^PEagle", "peagle"),
    # Not Eagle2_5_VLForConditionalGeneration, a model in its own right.
    (r"^Eagle3.*(ForCausalLM|Speculator|DraftModel)$|Eagle3$", "eagle3"),
    (r"^Eagle.*(ForCausalLM|Speculator|DraftModel|MTPModel)$|Eagle$", "eagle"),
    (r"MTP(Model)?$|NextN$", "mtp"),
)
"""Patterns of architectures; the first match holds, in any case of letters."""

_MODEL_TYPES: tuple[tuple[str, Kind], ...] = (
    (r"^medusa$", "medusa"),
    (r"^mlp_speculator$", "mlp_speculator"),
    (r"_mtp$|^gemma4(_unified)?_assistant$", "mtp"),
)

_CONFIG_KEYS: tuple[tuple[str, Kind], ...] = (
    ("dflash_config", "dflash"),
    ("medusa_num_heads", "medusa"),
    ("eagle_aux_hidden_state_layer_ids", "eagle3"),
    ("eagle_config", "eagle_1_or_3"),
)

_TENSORS: tuple[tuple[str, Kind], ...] = (
    (r"^blocks\.\d+\.layers\.\d+\.|^(medusa_heads?\.)?\d+\.\d+\.(linear\.)?weight$", "medusa"),
    (r"^(model\.)?hidden_norm\.weight$", "dflash"),
    (r"^(model\.)?mask_hidden$", "peagle"),
    (r"^(model\.)?(midlayer\.|layers\.\d+\.hidden_norm\.)", "eagle3"),
    (r"^(model\.)?(fc|fusion_fc)\.weight$", "eagle_1_or_3"),
)
"""Patterns of tensors that no plain model has; the first pattern that matches any name holds."""


def identify_drafter(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Drafter | None:
    """Returns the kind of drafter that a checkpoint certainly is; None if nothing tells.

    Args:
        config: config.json.
        tensors: by name; empty if they are not known (not safetensors, or not fetched yet).
    """
    found = _by_config(config) or _by_tensors(config, tensors)
    if found is None:
        return _as_model(config, tensors)
    if found.kind == "eagle_1_or_3" and (by_tensors := _by_tensors(config, tensors)) is not None:
        found = by_tensors
    if found.kind == "eagle3":
        return _as_parallel(found, config, tensors)
    return found


def mask_token(config: Mapping[str, Any]) -> tuple[str, int] | None:
    """Returns the key and the id of the token that stands at positions to be drafted; None if config.json has none."""
    nested = config.get("dflash_config")
    found = nested.get("mask_token_id") if isinstance(nested, dict) else None
    if type(found) is int:
        return "dflash_config.mask_token_id", found
    return next(((key, config[key]) for key in MASK_KEYS if type(config.get(key)) is int), None)


def has_mtp_layers(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> bool:
    """Whether a model has layers for multi-token prediction, by a key of its config.json or by a tensor's name."""
    keys = [key for part in (config, language_config(config)) for key, value in part.items() if value]
    return any(re.search("mtp|nextn|n_predict", key) for key in keys) or any(
        re.search(r"mtp|nextn|\beh_proj\b", name) for name in tensors
    )


def num_medusa_heads(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> int | None:
    """Returns the number of Medusa heads: by the tensors, or else by config.json; None if neither tells."""
    numbered = [re.match(r"(?:blocks|medusa_heads?)?\.?(\d+)\.", name) for name in tensors]
    heads = {int(found[1]) for found in numbered if found is not None}
    stated = next((config[key] for key in ("num_heads", "medusa_num_heads") if type(config.get(key)) is int), None)
    return len(heads) or stated


def block_size(config: Mapping[str, Any]) -> int | None:
    """Returns the tokens of a block, of DFlash with the last accepted token, of DSpark without; None if not stated."""
    nested = config.get("dflash_config")
    for part in (nested if isinstance(nested, dict) else {}, config):
        if type(size := part.get("block_size")) is int:
            return size
    return None


def _by_config(config: Mapping[str, Any]) -> Drafter | None:
    stated = str(config.get("speculators_model_type"))
    if stated in _FORMATS:
        return Drafter(_FORMATS[stated], f"speculators_model_type={stated}")
    for architecture in map(str, config.get("architectures") or []):
        for pattern, kind in _ARCHITECTURES:
            if re.search(pattern, architecture, re.IGNORECASE):
                return Drafter(kind, f"architecture {architecture}")
    for pattern, kind in _MODEL_TYPES:
        if re.search(pattern, str(config.get("model_type"))):
            return Drafter(kind, f"model_type={config['model_type']}")
    return next((Drafter(kind, f"{key} in config.json") for key, kind in _CONFIG_KEYS if config.get(key)), None)


def _by_tensors(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Drafter | None:
    for pattern, kind in _TENSORS:
        for name, tensor in tensors.items():
            if not re.search(pattern, name):
                continue
            if kind == "eagle_1_or_3":
                return Drafter(_by_fusion(config, tensor), f"tensor {name}")
            return Drafter(kind, f"tensor {name}")
    if tensors and all("mtp" in name for name in tensors):
        return Drafter("mtp", f"tensor {min(tensors)}")
    return None


def _by_fusion(config: Mapping[str, Any], tensor: Tensor) -> Kind:
    """Returns the kind of head by its fusing layer, whose weight has the shape [hidden, inputs].

    EAGLE-1 fuses the embedding with one state, so that inputs = 2 x hidden. EAGLE-3 fuses states of several layers;
    two layers would look like EAGLE-1, so that only three or more decide.
    """
    hidden = config.get("hidden_size")
    if type(hidden) is not int or len(tensor.shape) != 2 or tensor.shape[0] != hidden:
        return "eagle_1_or_3"
    if config.get("draft_vocab_size") is None and tensor.shape[1] == 2 * hidden:
        return "eagle"
    return "eagle3" if tensor.shape[1] >= 3 * hidden else "eagle_1_or_3"


def _as_parallel(found: Drafter, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Drafter:
    """Returns an EAGLE-3 head as a P-EAGLE head if it has what parallel drafting needs."""
    if hidden := [name for name in tensors if name.endswith("mask_hidden")]:
        return Drafter("peagle", f"tensor {hidden[0]}")
    if not tensors and (mask := mask_token(config)) is not None:
        return Drafter("peagle", f"{mask[0]} in config.json")
    return found


def _as_model(config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Drafter | None:
    """Returns a checkpoint that no sign marks as a head: a whole model, if its config.json leaves no other reading.

    Many heads call themselves a plain LlamaForCausalLM. All have a layer that fuses hidden states, except those whose
    config says how they do without.
    """
    architectures = [str(name) for name in config.get("architectures") or []]
    if not architectures or not all(name.endswith("ForCausalLM") for name in architectures):
        return None
    if "eagle" in json.dumps(config).lower() or config.get("draft_vocab_size") is not None:
        return None
    if (mask := mask_token(config)) is not None and (tensors or mask[0] == "pard_token"):
        return Drafter("pard", f"{mask[0]} in config.json")
    return Drafter("model", f"architecture {', '.join(architectures)}") if tensors else None
