"""The script that reads signatures out of an engine's source, on a source made up here; and what it read."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.stand_ins import signatures

STAND_INS = Path(__file__).resolve().parents[2] / "stand_ins"

SOURCE = '''
class StrictBaseModel(BaseModel):
    class Config:
        extra = "forbid"


class DecodingBaseConfig(StrictBaseModel):
    max_draft_len: Optional[int] = None
    speculative_model: Optional[str] = Field(
        default=None, validation_alias=AliasChoices("speculative_model", "speculative_model_dir"), description="x")
    decoding_type: ClassVar[str] = "Base"
    _private: bool = PrivateAttr(True)

    def supports_backend(self, backend: str) -> bool:
        """Says more than it should."""
        return backend == "pytorch" or backend == "_autodeploy"


class NGramDecodingConfig(DecodingBaseConfig):
    max_matching_ngram_size: int
    def supports_backend(self, backend): return backend not in ("pytorch", "_autodeploy")


class BaseLlmArgs(StrictBaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")
    model: Union[str, Path] = Field(description="required")
    kv_cache_config: KvCacheConfig = Field(default_factory=KvCacheConfig)
    sampler_type: Union[str, SamplerType] = Field(default=SamplerType.auto)


class NotOfInterest:
    field: int = 1
'''
EXPECTED: dict[str, Any] = {
    "StrictBaseModel": {"bases": ["BaseModel"], "fields": {}, "extra": "forbid"},
    "DecodingBaseConfig": {
        "bases": ["StrictBaseModel"],
        "fields": {
            "max_draft_len": {"annotation": "Optional[int]", "default": None},
            "speculative_model": {
                "annotation": "Optional[str]",
                "default": None,
                "aliases": ["speculative_model", "speculative_model_dir"],
            },
        },
        "backends": ["pytorch", "_autodeploy"],
    },
    "NGramDecodingConfig": {
        "bases": ["DecodingBaseConfig"],
        "fields": {"max_matching_ngram_size": {"annotation": "int"}},
        "backends": [],
    },
    "BaseLlmArgs": {
        "bases": ["StrictBaseModel"],
        "fields": {
            "model": {"annotation": "Union[str, Path]"},
            "kv_cache_config": {"annotation": "KvCacheConfig", "factory": "KvCacheConfig"},
            "sampler_type": {"annotation": "Union[str, SamplerType]", "expression": "SamplerType.auto"},
        },
        "extra": "forbid",
    },
}


def test_fields_defaults_refusals_and_backends_are_read(tmp_path: Path) -> None:
    file = "tensorrt_llm/llmapi/llm_args.py"
    (tmp_path / file).parent.mkdir(parents=True)
    (tmp_path / file).write_text(SOURCE, encoding="utf-8")
    found = signatures.read("tensorrt_llm", tmp_path, "abc")
    assert (found["engine"], found["commits"]) == ("tensorrt_llm", {file: "abc"})
    assert signatures.read("tensorrt_llm", tmp_path, "abc", {file: "def"})["commits"] == {file: "def"}
    assert found["classes"] == {name: {"file": file} | facts for name, facts in EXPECTED.items()}


def test_annotated_fields_and_members_of_an_enum(tmp_path: Path) -> None:
    for file, source in {
        "sglang/srt/server_args.py": "class ServerArgs:\n    tp_size: A[int, Arg(help='x')] = 1\n    model_path: str\n",
        "sglang/srt/speculative/spec_info.py": "class SpeculativeAlgorithm:\n    EAGLE = auto()\n    NONE = auto()",
    }.items():
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_text(source, encoding="utf-8")
    classes = signatures.read("sglang", tmp_path, "v1")["classes"]
    assert classes["ServerArgs"]["fields"] == {
        "tp_size": {"annotation": "int", "default": 1},
        "model_path": {"annotation": "str"},
    }
    assert classes["SpeculativeAlgorithm"]["members"] == ["EAGLE", "NONE"]


def test_a_backend_that_is_not_compared_with_is_not_guessed(tmp_path: Path) -> None:
    file = tmp_path / "tensorrt_llm/llmapi/llm_args.py"
    file.parent.mkdir(parents=True)
    file.write_text("class KvCacheConfig:\n    def supports_backend(self, backend): return open(backend)\n")
    with pytest.raises(AssertionError, match="open"):
        signatures.read("tensorrt_llm", tmp_path, "abc")


@pytest.mark.parametrize("path", sorted(STAND_INS.glob("signatures/*.json")), ids=lambda path: path.stem)
def test_what_was_read_says_where_it_is_from_and_every_class_has_its_bases(path: Path) -> None:
    data = json.loads(path.read_text(encoding="utf-8"))
    for name, facts in data["classes"].items():
        assert data["commits"][facts["file"]]
        assert name in signatures.SOURCES[data["engine"]][facts["file"]]
