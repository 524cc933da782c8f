"""What makes two configurations the same."""

import hashlib
import json
from dataclasses import asdict

from specdec_bench.config.schema import ExperimentConfig

_PROMPTING = frozenset(
    ("prompt_format", "chat_template", "chat_template_kwargs", "template_date", "add_bos", "reply_format")
)
"""Fields of the model that change its prompts; an engine gets token ids."""


def engine_key(config: ExperimentConfig) -> str:
    """Returns a hash of all that a live engine depends on: two cells with equal keys can share one engine."""
    model = {key: value for key, value in asdict(config.model).items() if key not in _PROMPTING}
    parts = {"engine": asdict(config.engine), "model": model, "spec": asdict(config.spec)}
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def request_seed(seed: int, prompt_id: str, turn: int, repeat: int) -> int:
    """Returns the sampling seed of one request: below 2**31, the same for every engine and method."""
    digest = hashlib.sha256(json.dumps([seed, prompt_id, turn, repeat]).encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1
