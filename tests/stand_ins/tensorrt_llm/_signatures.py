"""Classes made from the signatures of TensorRT-LLM's: the same fields, defaults and refusals, and nothing else."""

import builtins
import dataclasses
import json
import typing
from pathlib import Path
from typing import Any

import pydantic

FILE = Path(__file__).resolve().parents[1] / "signatures" / "tensorrt_llm.json"
DATA: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))


class _Names(dict[str, Any]):
    """What annotations name; a type that the stand-in does not have is any."""

    def __missing__(self, name: str) -> Any:
        return Any


def classes(data: dict[str, Any]) -> dict[str, Any]:
    """Returns the classes of a signatures file, by name."""
    made: dict[str, Any] = {}
    names = _Names(vars(builtins) | {name: getattr(typing, name) for name in typing.__all__} | {"Path": Path})
    names |= {name: getattr(pydantic, name) for name in ("NonNegativeInt", "NonNegativeFloat", "PositiveInt")}
    for name, facts in data["classes"].items():
        if name == "SamplingParams":
            made[name] = _dataclass(name, facts, names)
        else:
            made[name] = names[name] = _model(name, facts, made, names)
    return made


def _type(annotation: str, names: _Names) -> Any:
    try:
        return eval(annotation, {}, names)
    except (AttributeError, TypeError):
        return Any


def _model(name: str, facts: dict[str, Any], made: dict[str, Any], names: _Names) -> Any:
    bases = tuple(made[base] for base in facts["bases"] if base in made)
    fields: dict[str, Any] = {}
    for field, given in facts["fields"].items():
        alias = {"validation_alias": pydantic.AliasChoices(*given["aliases"])} if "aliases" in given else {}
        if "factory" in given:
            factory = made.get(given["factory"], lambda: None)
            fields[field] = (_type(given["annotation"], names), pydantic.Field(default_factory=factory))
        elif "default" in given or "expression" in given:
            fields[field] = (_type(given["annotation"], names), pydantic.Field(default=given.get("default"), **alias))
        else:
            fields[field] = (_type(given["annotation"], names), ...)
    namespace: dict[str, Any] = {"__annotations__": {key: kind for key, (kind, _) in fields.items()}}
    namespace |= {key: default for key, (_, default) in fields.items() if default is not ...}
    config: dict[str, Any] = {"arbitrary_types_allowed": True, "protected_namespaces": ()}
    if "extra" in facts:
        config["extra"] = facts["extra"]
    namespace["model_config"] = config
    if "backends" in facts:
        backends = tuple(facts["backends"])
        namespace["supports_backend"] = lambda self, backend: backend in backends
    namespace["__module__"] = __name__
    return type(pydantic.BaseModel)(name, bases or (pydantic.BaseModel,), namespace)


def _dataclass(name: str, facts: dict[str, Any], names: _Names) -> Any:
    fields = [(key, _type(f["annotation"], names), f.get("default")) for key, f in facts["fields"].items()]
    return dataclasses.make_dataclass(name, fields, kw_only=True, slots=True)


CLASSES = classes(DATA)
