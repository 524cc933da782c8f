"""Prompts of random token ids, of exact length. Acceptance on random text says little: use it for lengths and load.

Only the lengths are drawn here. The ids are drawn uniformly where the model's tokenizer is, from its vocabulary
without special and added tokens (`prompter.first_request`), and go to the engine as ids: nothing tokenizes them again.
"""

import math
import random
from collections.abc import Iterator

from specdec_bench.config.schema.dataset import DatasetConfig, RandomDataset
from specdec_bench.records.request import Prompt, RandomTokens
from specdec_bench.records.unused import Unused


def load(config: DatasetConfig, _: Unused) -> Iterator[tuple[int, Prompt]]:
    """Yields `config.num_prompts` prompts of one request each. A larger set of the same seed begins with a smaller."""
    assert isinstance(config, RandomDataset)
    assert config.num_prompts is not None
    draw = random.Random(f"random lengths {config.seed}")
    for number in range(config.num_prompts):
        prompt = Prompt(
            prompt_id=f"random-{number}",
            category="random",
            turns=("",),
            random_tokens=RandomTokens(num_tokens=_length(config, draw), seed=config.seed),
        )
        yield number + 1, prompt


def _length(config: RandomDataset, draw: random.Random) -> int:
    match config.length_distribution:
        case "uniform":
            least = math.ceil(config.input_tokens * (1 - config.length_spread))
            length = draw.randint(least, math.floor(config.input_tokens * (1 + config.length_spread)))
        case "lognormal":
            length = round(config.input_tokens * math.exp(draw.gauss(0, config.length_spread)))
        case _:
            length = config.input_tokens
    return max(1, length if config.max_length is None else min(length, config.max_length))
