"""What the manifest has of an engine's configuration object."""

import enum
from dataclasses import dataclass, field

import pydantic
import torch

from specdec_bench.engines.settings import settings_of


class Mode(enum.Enum):
    FAST = 1


@dataclass
class Cache:
    num_blocks: int = 7


@dataclass
class Config:
    length: int = 3
    dtype: torch.dtype = torch.bfloat16
    mode: Mode = Mode.FAST
    cache: Cache = field(default_factory=Cache)
    target_cache: Cache = field(default_factory=Cache)
    names: list[str] = field(default_factory=lambda: ["a"])
    parser: object = field(default_factory=object)
    nothing: None = None


class Section(pydantic.BaseModel):
    rate: float = 0.5


class Model(pydantic.BaseModel):
    section: Section = Section()
    mode: Mode = Mode.FAST


def test_fields_sections_and_names() -> None:
    rest = {"length": 3, "dtype": "bfloat16", "mode": "FAST", "names": ["a"], "nothing": None}
    assert settings_of(Config(), without="target_") == {**rest, "cache": {"num_blocks": 7}}
    assert settings_of(Config())["target_cache"] == {"num_blocks": 7}
    assert settings_of(Model()) == {"section": {"rate": 0.5}, "mode": "FAST"}
