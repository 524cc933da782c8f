"""What makes two configurations the same."""

import copy
import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from specdec_bench.config.schema.experiment import ExperimentConfig

_PROMPTING = frozenset(
    ("prompt_format", "chat_template", "chat_template_kwargs", "template_date", "add_bos", "reply_format")
)
"""Fields of the model that change its prompts; an engine gets token ids."""

_DRAFTING = frozenset(("draft", "proposer"))
"""Roles of what drafts."""

_WATCHING = frozenset(("stall_timeout_s", "start_timeout_s"))
"""Engine fields that only set how long to wait for it. No live engine or result depends on them."""


def engine_key(config: ExperimentConfig) -> str:
    """Returns a hash of everything a live engine depends on. Two cells with equal keys can share one engine."""
    model = {key: value for key, value in asdict(config.model).items() if key not in _PROMPTING}
    engine = {key: value for key, value in asdict(config.engine).items() if key not in _WATCHING}
    return _hash({"engine": engine, "model": model, "spec": asdict(config.spec)})


def cell_id(tree: Mapping[str, Any], prompts_sha256: str, checkpoints: Mapping[str, str]) -> str:
    """Returns a hash of everything a cell asks for. The machine, the folder and the order of keys do not change it.

    Args:
        tree: the resolved experiment, secrets redacted.
        prompts_sha256: of the selected prompts; used in place of the dataset.
        checkpoints: content by role, used in place of the paths; see `specdec_bench.runner.identify`.
    """
    asked = {name: copy.deepcopy(tree[name]) for name in ("engine", "model", "spec", "load", "sampling")}
    for name in ("name", "path", "revision", "tokenizer", "drafts"):
        asked["model"].pop(name, None)
    asked["spec"].pop("draft", None)
    # Options that are left null did not exist in earlier releases, whose cells keep their ids.
    if asked["spec"].get("draft_length_by_batch_size") is None:
        asked["spec"].pop("draft_length_by_batch_size", None)
    asked["load"] = {name: value for name, value in asked["load"].items() if value is not None}
    # The same holds for one client, which all had. More of them are another cell: they may change times, which is why
    # one asks for them, so a sweep that goes on with more clients must not take what one has measured.
    if asked["load"].get("clients") == "1":
        del asked["load"]["clients"]
    if "arrivals" in asked["load"]:
        asked["load"].pop("path", None)
    for name in _WATCHING:
        asked["engine"].pop(name, None)
    scalars = {"seed": tree["seed"], "replicate": tree.get("replicate", 0)}
    return _hash({**asked, **scalars, "prompts": prompts_sha256, "checkpoints": dict(checkpoints)})


def baseline_id(tree: Mapping[str, Any], prompts_sha256: str, checkpoints: Mapping[str, str]) -> str:
    """Returns the `cell_id` of the plain cell that a cell is compared with: the same in everything but `spec`."""
    plain = {**tree, "spec": {"name": "none"}, "replicate": 0}
    return cell_id(plain, prompts_sha256, {role: value for role, value in checkpoints.items() if role not in _DRAFTING})


def request_seed(seed: int, prompt_id: str, turn: int, repeat: int) -> int:
    """Returns the sampling seed of one request: below 2**31, the same for every engine and method."""
    digest = hashlib.sha256(json.dumps([seed, prompt_id, turn, repeat]).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def _hash(parts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
