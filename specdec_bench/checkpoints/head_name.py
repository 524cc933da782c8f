"""Gives an EAGLE head the name by which an engine takes it for one.

SGLang 0.5.20 loads a head whose `architectures` names LlamaForCausalLM as a Llama, leaves out the tensors that a Llama
lacks, and runs: it accepts no draft at all. As a LlamaForCausalLMEagle the same head works.
"""

import contextlib
import hashlib
import json
import tempfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from specdec_bench import hub
from specdec_bench.config.schema.spec import Eagle3Spec, EagleSpec, SpecConfig
from specdec_bench.errors import ConfigError

CONFIG = "config.json"
_BIASED = ("Llama", "Qwen2")
"""Families whose EAGLE-1 heads have `fc.bias` in SGLang. Source: sglang/srt/models/{llama,qwen2}_eagle.py."""


def head_name(spec: SpecConfig, config: Mapping[str, Any]) -> str | None:
    """Returns the architecture by which a head is known, if its config.json names a plain model; else None."""
    names = [str(name) for name in config.get("architectures") or []]
    is_plain = bool(names) and all(name.endswith("ForCausalLM") and "eagle" not in name.lower() for name in names)
    if not is_plain or not isinstance(spec, EagleSpec | Eagle3Spec):
        return None
    return names[0] + ("Eagle3" if isinstance(spec, Eagle3Spec) else "Eagle")


def check_head(
    spec: SpecConfig, path: str, config: Mapping[str, Any], tensors: Collection[str], engine: str, *, is_folder: bool
) -> None:
    """Refuses a head that an engine which knows heads by their names would run as something else.

    Args:
        spec: the method.
        path: of the draft, for messages.
        config: of the draft.
        tensors: names; empty if they are not known.
        engine: of `engine.name`, for messages.
        is_folder: whether it can be given another name.

    Raises:
        ConfigError: it is of the hub and named like a plain model, or it lacks a tensor.
    """
    name = head_name(spec, config)
    if name is not None and not is_folder:
        raise ConfigError(
            f"spec={spec.name}: spec.draft.path={path} is named {config['architectures'][0]}, which engine={engine} "
            "loads as a plain model; download it and pass its folder, which is then given the head's name"
        )
    names = [name] if name is not None else [str(named) for named in config.get("architectures") or []]
    has_bias = any(tensor.rpartition("fc.")[2] == "bias" for tensor in tensors if "fc." in tensor)
    if isinstance(spec, EagleSpec) and tensors and not has_bias and names and names[0].startswith(_BIASED):
        raise ConfigError(
            f"spec={spec.name}: spec.draft.path={path} has no tensor fc.bias, which engine={engine} fills with random "
            "numbers; add one of zeros to a copy of the folder"
        )


def named_head(folder: Path, spec: SpecConfig) -> Path:
    """Returns a folder with the same files, whose config.json has the head's name; the folder itself if it has it.

    The files are links. The folder lies in the cache, at a place that follows from what it holds.
    """
    text = (folder / CONFIG).read_text(encoding="utf-8")
    name = head_name(spec, json.loads(text))
    if name is None:
        return folder
    files = sorted(path.resolve() for path in folder.iterdir() if path.name != CONFIG)
    digest = hashlib.sha256("\0".join([name, text, *map(str, files)]).encode()).hexdigest()[:12]
    made = hub.cache_folder() / "heads" / f"{folder.name}-{digest}"
    if not made.is_dir():
        made.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=made.parent, prefix=".", ignore_cleanup_errors=True) as temporary:
            filled = Path(temporary, "head")
            filled.mkdir()
            for path in folder.iterdir():
                if path.name != CONFIG:
                    (filled / path.name).symlink_to(path.resolve())
            stated = json.loads(text) | {"architectures": [name]}
            (filled / CONFIG).write_text(json.dumps(stated, indent=2) + "\n", encoding="utf-8")
            with contextlib.suppress(OSError):  # another process has just made it
                filled.rename(made)
    return made
