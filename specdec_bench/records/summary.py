"""summary.json."""

from typing import Any

Summary = dict[str, Any]
"""summary.json. Its shape is documented and built in `specdec_bench.metrics.summary`."""
