"""Draws a subset that keeps the categories' shares."""

import random
from collections import defaultdict
from collections.abc import Sequence


def drawn(categories: Sequence[str], num_prompts: int, seed: int) -> list[int]:
    """Returns `num_prompts` indices, rising, spread over the categories in proportion.

    Each category gets its share rounded down; what is left goes to the largest remainders (ties: drawn).
    A larger subset of the same seed contains every prompt of a category that a smaller one has, as long as
    that category's share does not shrink.

    Args:
        categories: of each prompt, in the order of the source.
        num_prompts: at most as many as there are.
        seed: of the draw.
    """
    by_category: dict[str, list[int]] = defaultdict(list)
    for index, category in enumerate(categories):
        by_category[category].append(index)
    rng = random.Random(f"subset {seed}")
    for indices in by_category.values():
        rng.shuffle(indices)
    shares = {category: num_prompts * len(indices) / len(categories) for category, indices in by_category.items()}
    counts = {category: int(share) for category, share in shares.items()}
    order = list(by_category)
    rng.shuffle(order)
    order.sort(key=lambda category: shares[category] - counts[category], reverse=True)
    for category in order[: num_prompts - sum(counts.values())]:
        counts[category] += 1
    return sorted(index for category, count in counts.items() for index in by_category[category][:count])
