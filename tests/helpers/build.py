"""The one builder of experiments, prompts, requests and manifests: what a test does not name is as plain as can be."""

from collections.abc import Iterable
from typing import Any

import msgspec

from specdec_bench.config.schema.dataset import DemoDataset
from specdec_bench.config.schema.engine import SyntheticEngine
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.config.schema.load import ClosedLoad
from specdec_bench.config.schema.model import ModelConfig
from specdec_bench.config.schema.sampling import SamplingConfig
from specdec_bench.config.schema.spec import NoSpec
from specdec_bench.records.manifest import ArchivedDataset, ArchivedEngine, ImportedFrom, Manifest
from specdec_bench.records.request import SCHEMA_VERSION, Prompt, RequestRecord, Step


def experiment(**parts: Any) -> ExperimentConfig:
    """Returns plain greedy decoding of the demo prompts on the synthetic engine, but for the parts that are given."""
    values: dict[str, Any] = {
        "engine": SyntheticEngine(),
        "model": ModelConfig(name="m", path="p"),
        "dataset": DemoDataset(),
        "spec": NoSpec(),
        "load": ClosedLoad(),
        "sampling": SamplingConfig(),
    }
    return ExperimentConfig(**(values | parts))


def prompt(prompt_id: str = "p", **fields: Any) -> Prompt:
    """Returns a prompt of one turn."""
    values: dict[str, Any] = {"prompt_id": prompt_id, "category": "c", "turns": ("one",)}
    return Prompt(**(values | fields))


def request(steps: Iterable[Step] = (), **fields: Any) -> RequestRecord:
    """Returns a measured request that was sent at 0 ns and got these steps; each of its output tokens is 7."""
    steps = tuple(steps)
    values: dict[str, Any] = {
        "request_id": "r",
        "prompt_id": "p",
        "category": "c",
        "turn": 0,
        "repeat": 0,
        "phase": "measure",
        "scheduled_ns": 0,
        "sent_ns": 0,
        "prompt_token_ids": (1,),
        "output_token_ids": (7,) * sum(step.num_tokens for step in steps),
        "steps": steps,
        "finish_reason": "length",
    }
    return RequestRecord(**(values | fields))


def manifest(**fields: Any) -> Manifest:
    """Returns the manifest of a finished run, of which nothing else is known."""
    values: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "run_id": "run-1",
        "status": "finished",
        "created_utc": "2026-01-02T03:04:05+00:00",
        "command": (),
        "overrides": (),
        "config": {},
        "project": {},
    }
    kinds = {"engine": ArchivedEngine, "dataset": ArchivedDataset, "imported": ImportedFrom}
    sections = {
        name: msgspec.convert(fields[name], kind) for name, kind in kinds.items() if isinstance(fields.get(name), dict)
    }
    return Manifest(**(values | fields | sections))
