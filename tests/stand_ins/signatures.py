"""Reads the signatures of an engine's classes out of its source, for tests on a machine that cannot install it.

    python tests/stand_ins/signatures.py sglang FOLDER v0.5.16 > tests/stand_ins/signatures/sglang.json

FOLDER holds the engine's source at that commit or release (a checkout, an unpacked wheel); FILE=COMMIT names another
one for a single file. tests/stand_ins/README.md says where each committed file is from. What is written are facts: the
names, annotations and defaults of fields, the members of enums, whether a class takes unknown fields, and which
backends a class says it supports. No code is kept.
"""

import ast
import json
import sys
from pathlib import Path
from typing import Any

SOURCES: dict[str, dict[str, tuple[str, ...]]] = {
    "tensorrt_llm": {
        "tensorrt_llm/llmapi/llm_args.py": (
            "StrictBaseModel",
            "CudaGraphConfig",
            "DecodingBaseConfig",
            "MedusaDecodingConfig",
            "EagleDecodingConfig",
            "Eagle3DecodingConfig",
            "NGramDecodingConfig",
            "DraftTargetDecodingConfig",
            "MTPDecodingConfig",
            "PARDDecodingConfig",
            "KvCacheConfig",
            "BaseLlmArgs",
            "TorchLlmArgs",
        ),
        "tensorrt_llm/_torch/auto_deploy/llm_args.py": ("AutoDeployConfig", "LlmArgs"),
        "tensorrt_llm/sampling_params.py": ("SamplingParams",),
    },
    "sglang": {
        "sglang/srt/server_args.py": ("ServerArgs",),
        "sglang/srt/speculative/spec_info.py": ("SpeculativeAlgorithm",),
    },
}
"""The classes that the adapters touch, by file."""

BACKENDS = ("pytorch", "_autodeploy")


def read(engine: str, folder: Path, commit: str, commits: dict[str, str] | None = None) -> dict[str, Any]:
    """Returns the signatures of an engine's classes; a file or a class that is not there is left out.

    Args:
        engine: of SOURCES.
        folder: its source.
        commit: of the source.
        commits: of files that are from another one.
    """
    classes: dict[str, Any] = {}
    at: dict[str, str] = {}
    for file, names in SOURCES[engine].items():
        if (folder / file).is_file():
            at[file] = (commits or {}).get(file, commit)
            tree = ast.parse((folder / file).read_text(encoding="utf-8"))
            found = {node.name: node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)}
            classes |= {name: {"file": file} | signature(found[name]) for name in names if name in found}
    return {"engine": engine, "commits": at, "classes": classes}


def load(file: str) -> dict[str, Any]:
    """Returns the classes of a committed file."""
    path = Path(__file__).resolve().parent / "signatures" / file
    classes: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["classes"]
    return classes


def field_names(classes: dict[str, Any], name: str) -> set[str]:
    """Returns the fields of a class, those of its bases too."""
    bases = [field_names(classes, base) for base in classes[name]["bases"] if base in classes]
    return set(classes[name]["fields"]).union(*bases)


def signature(node: ast.ClassDef) -> dict[str, Any]:
    """Returns one class's bases, fields and members."""
    facts: dict[str, Any] = {"bases": [ast.unparse(base) for base in node.bases], "fields": {}}
    for statement in node.body:
        if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            name, annotation = statement.target.id, ast.unparse(_bare(statement.annotation))
            if not name.startswith("_") and name != "model_config" and not annotation.startswith("ClassVar"):
                facts["fields"][name] = {"annotation": annotation} | _default(statement.value)
        elif isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            if statement.targets[0].id == "model_config":
                facts |= _extra(statement.value)
            elif statement.targets[0].id.isupper():
                facts.setdefault("members", []).append(statement.targets[0].id)
        elif isinstance(statement, ast.ClassDef) and statement.name == "Config":
            for setting in statement.body:
                if isinstance(setting, ast.Assign) and ast.unparse(setting.targets[0]) == "extra":
                    facts["extra"] = ast.literal_eval(setting.value)
        elif isinstance(statement, ast.FunctionDef) and statement.name == "supports_backend":
            facts["backends"] = _backends(statement)
    return facts


def _bare(annotation: ast.expr) -> ast.expr:
    """Returns the type of an annotation that carries help beside it (Annotated, or A for short)."""
    if isinstance(annotation, ast.Subscript) and ast.unparse(annotation.value) in ("A", "Annotated"):
        assert isinstance(annotation.slice, ast.Tuple)
        return annotation.slice.elts[0]
    return annotation


def _default(value: ast.expr | None) -> dict[str, Any]:
    """Returns a field's default: a value, the name of what makes it, or its source where it is neither."""
    if value is None:
        return {}
    if isinstance(value, ast.Call) and ast.unparse(value.func).split(".")[-1] in ("Field", "field"):
        options = {keyword.arg: keyword.value for keyword in value.keywords}
        names = {"aliases": [argument.value for argument in _alias_choices(options.get("validation_alias"))]}
        if "default_factory" in options:
            return {"factory": ast.unparse(options["default_factory"])}
        default = options.get("default", value.args[0] if value.args else None)
        return ({} if default is None else _default(default)) | ({key: v for key, v in names.items() if v})
    try:
        return {"default": ast.literal_eval(value)}
    except ValueError:
        return {"expression": ast.unparse(value)}


def _alias_choices(value: ast.expr | None) -> list[ast.Constant]:
    if not isinstance(value, ast.Call):
        return []
    return [argument for argument in value.args if isinstance(argument, ast.Constant)]


def _extra(value: ast.expr) -> dict[str, Any]:
    """Returns what a pydantic class does with unknown fields, where its configuration says so."""
    if isinstance(value, ast.Dict):
        pairs = {ast.unparse(key): item for key, item in zip(value.keys, value.values, strict=True) if key}
        item = pairs.get("'extra'")
    else:
        item = (
            next((k.value for k in value.keywords if k.arg == "extra"), None) if isinstance(value, ast.Call) else None
        )
    return {} if item is None else {"extra": ast.literal_eval(item)}


def _backends(function: ast.FunctionDef) -> list[str]:
    """Returns the backends for which a `supports_backend` of one return statement says yes."""
    returned = next(node for node in function.body if isinstance(node, ast.Return))
    assert returned.value is not None
    allowed = (ast.Compare, ast.BoolOp, ast.Constant, ast.Name, ast.Tuple, ast.boolop, ast.cmpop, ast.expr_context)
    assert all(isinstance(node, allowed) for node in ast.walk(returned.value)), ast.unparse(returned)
    test = compile(ast.Expression(returned.value), "supports_backend", "eval")
    return [backend for backend in BACKENDS if eval(test, {"__builtins__": {}}, {"backend": backend})]


if __name__ == "__main__":
    chosen, source, release, *others = sys.argv[1:]
    apart = dict(other.split("=") for other in others)
    json.dump(read(chosen, Path(source), release, apart), sys.stdout, indent=1)
    print()
