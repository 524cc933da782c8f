"""docs/metrics.md, from the declarations: `python -m specdec_bench.metrics.declarations_page > docs/metrics.md`."""

import sys

from specdec_bench.metrics.declarations import METRICS, column_name
from specdec_bench.metrics.declared import Family, Metric

_INTRODUCTION = """\
# Metrics

    python -m specdec_bench.metrics.declarations_page > docs/metrics.md

writes this page from the declarations in `specdec_bench/metrics/declarations.py`. The formulas of a run are also stored
in its `summary.json`, under `definitions`, because tools give the same names to different things.

A *decode step* is one forward pass of the target model after the prefill, whose token is not part of the acceptance
length. A *verify step* is a decode step that had at least one draft token to verify. *Accepted* tokens are draft tokens
that the target kept; K is the draft length. A metric without a value is `null`.
"""
_TITLES: dict[Family, str] = {
    "acceptance": "Acceptance",
    "latency": "Latency",
    "throughput": "Throughput",
    "client": "The measuring client",
    "comparison": "Comparison with plain decoding",
    "o200k_base": "In tokens of o200k_base",
}
_NOTES: dict[Family, str] = {
    "acceptance": "Each is given over all requests and by category: `pooled`, `macro` and `macro_by_conversation` say "
    "how requests are combined.",
    "latency": "Each is a distribution: count, mean, standard deviation, minimum, percentiles 25 to 99, maximum. The "
    "sweep's table has the statistic that its column names.",
    "throughput": "`output_tps_per_request` is a distribution; the others are single numbers.",
    "client": "How much the measurement itself disturbs the times.",
    "comparison": "These are columns of the sweep's table, computed from a run and the plain run that it is compared "
    "with.",
    "o200k_base": "`specdec-bench summarize --aa` writes these to `aa.json`, beside the metrics in the model's own "
    "tokens, so that models with different vocabularies compare. They are computed from the archived text of finished "
    "requests. `aa_output_tps_per_request` is a distribution; it leaves out replies that came in one chunk.",
}


def render_page() -> str:
    """Returns docs/metrics.md."""
    parts = [_INTRODUCTION]
    for family, title in _TITLES.items():
        parts += [f"\n## {title}\n\n{_NOTES[family]}\n\n", _table(family)]
    return "".join(parts)


def _table(family: Family) -> str:
    rows = [
        ("metric", "formula", "unit", "better", "sweep's column", "interval", "elsewhere"),
        *(_row(metric) for metric in METRICS if metric.family == family),
    ]
    kept = [index for index in range(len(rows[0])) if any(row[index] for row in rows[1:])]
    lines = ["| " + " | ".join(row[index] for index in kept) + " |\n" for row in rows]
    return lines[0] + "|" + " --- |" * len(kept) + "\n" + "".join(lines[1:])


def _row(metric: Metric) -> tuple[str, ...]:
    better = {"minimize": "lower", "maximize": "higher", None: ""}[metric.better]
    column = f"`{column_name(metric)}`" if metric.column is not None else ""
    unit_of_interval = "conversations" if metric.terms is not None else metric.interval
    interval = f"over {unit_of_interval}" if unit_of_interval else ""
    return f"`{metric.name}`", metric.formula, metric.unit, better, column, interval, metric.elsewhere


if __name__ == "__main__":
    sys.stdout.write(render_page())
