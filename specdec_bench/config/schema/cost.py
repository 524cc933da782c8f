"""What an accelerator costs."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from specdec_bench.config.schema.ranges import PRICE, Bounded


@dataclass(kw_only=True)
class Cost(Bounded):
    """Prices, in whatever currency. Changes nothing in how a run runs."""

    GROUP: ClassVar[str] = "cost"

    per_accelerator_hour: Annotated[float | None, PRICE] = None
    """Of one accelerator; null: no cost is computed."""
