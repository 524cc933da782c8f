"""What `compare` shows: the same content on a terminal, in Markdown and in HTML, and its numbers as CSV."""

import csv
import io
from collections.abc import Iterable, Iterator, Sequence

from specdec_bench.compare.columns import METRICS
from specdec_bench.compare.comparison import CellComparison, Comparison, MetricComparison, OutputsComparison
from specdec_bench.compare.differences import Difference
from specdec_bench.records.interval import Interval
from specdec_bench.report.blocks import Block, Heading, Line, Table
from specdec_bench.report.run_table import number
from specdec_bench.report.text import defuse

MOST_OF_ENGINE = 20
"""Differences of an engine's resolved settings that are shown; JSON has all of them."""
MOST_CHARACTERS = 80
"""Of a value in the table of differences."""
CSV_COLUMNS = (
    "archive",
    "reference_archive",
    "cell",
    "metric",
    "reference",
    "value",
    "ratio",
    "ratio_low",
    "ratio_high",
    "p_value",
    "verdict",
    "reason",
    "num_requests",
    "num_conversations",
    "num_reference_runs",
    "num_runs",
)


def blocks(comparison: Comparison) -> Iterator[Block]:
    """Yields the comparison: the verdict, the conditions, each cell, what differs."""
    names = [_letter(index) for index in range(len(comparison.archives))]
    yield Heading(text="Archives")
    for letter, path in zip(names, comparison.archives, strict=True):
        yield Line(text=f"{letter}  {path}")
    for path in comparison.unfinished:
        yield Line(text=f"{path}: did not finish, and is not compared", tone="warning")
    yield Heading(text="Verdict")
    for index in range(1, len(names)):
        yield from _verdict(comparison, index)
    for gate in comparison.gates:
        if not gate.failed and not gate.not_judged:
            yield Line(text=f"passed: {gate.text}")
        yield from (Line(text=f"FAILED: {gate.text}: {line}", tone="warning") for line in gate.failed)
        yield from (Line(text=f"NOT JUDGED: {gate.text}: {line}", tone="warning") for line in gate.not_judged)
    for cell in comparison.cells:
        yield from _cell(cell)
    yield Heading(text="Differences")
    yield from _differences(comparison.differences, names)


def _letter(index: int) -> str:
    return chr(ord("A") + index) if index < 26 else f"archive {index}"


def _verdict(comparison: Comparison, index: int) -> Iterator[Block]:
    """Yields one line for each cell of an archive, and the cells that only one side has."""
    pair = f"{_letter(index)} against A"
    cells = [cell for cell in comparison.cells if cell.archive == index]
    if not cells:
        yield Line(text=f"{pair}: no cell of one is a cell of the other", tone="warning")
    for cell in cells:
        yield Line(text=f"{pair}, {cell.name}: {_sentence(cell, comparison.num_judged)}")
    for unmatched in comparison.unmatched:
        if unmatched.archive == index:
            where = "A" if unmatched.is_missing else _letter(index)
            yield Line(text=f"only in {where}: {unmatched.name}", tone="warning")


def _sentence(cell: CellComparison, num_judged: int) -> str:
    by_verdict = {
        verdict: [METRICS[metric.metric].header for metric in cell.metrics if metric.verdict == verdict]
        for verdict in ("worse", "better", "no difference found", "not judged")
    }
    parts = [f"{verdict} in {', '.join(by_verdict[verdict])}" for verdict in ("worse", "better") if by_verdict[verdict]]
    if same := by_verdict["no difference found"]:
        parts.append(f"no difference found in {_metrics(len(same))}")
    if unjudged := by_verdict["not judged"]:
        reasons = dict.fromkeys(metric.reason for metric in cell.metrics if metric.verdict == "not judged")
        parts.append(f"{_metrics(len(unjudged))} not judged ({'; '.join(filter(None, reasons))})")
    corrected = f" (5%, Holm-corrected for {_metrics(num_judged)})" if len(unjudged) < len(cell.metrics) else ""
    return ("; ".join(parts) or "nothing to compare") + corrected


def _metrics(count: int) -> str:
    return f"{count} metric{'' if count == 1 else 's'}"


def _cell(cell: CellComparison) -> Iterator[Block]:
    letter, overlap = _letter(cell.archive), cell.overlap
    yield Heading(text=f"{letter} against A: {cell.name}")
    left_out = f", {overlap.num_left_out} left out" if overlap.num_left_out else ""
    yield Line(
        text=f"{overlap.num_requests} requests of {overlap.num_conversations} conversations in pairs{left_out}; "
        f"runs: {len(cell.reference_runs)} of A, {len(cell.runs)} of {letter}",
        tone="quiet",
    )
    yield from (Line(text=note, tone="warning") for note in cell.notes)
    yield Table(
        headers=("metric", "A", letter, f"{letter} / A [95%]", "p", "verdict"),
        rows=[
            (
                METRICS[metric.metric].header,
                _value(metric.reference),
                _value(metric.value),
                _ratio(metric.ratio),
                "–" if metric.p_value is None else f"{metric.p_value:.3f}",
                metric.verdict,
            )
            for metric in cell.metrics
        ],
    )
    for reason, headers in _group_refusals(cell.metrics).items():
        yield Line(text=f"no ratio of {', '.join(headers)}: {reason}", tone="warning")
    yield from _outputs(cell.outputs, cell.outputs_reason)


def _group_refusals(metrics: Sequence[MetricComparison]) -> dict[str, list[str]]:
    """Returns the headers of the metrics that have no ratio, by reason."""
    found: dict[str, list[str]] = {}
    for metric in metrics:
        if metric.ratio.value is None and metric.reason is not None:
            found.setdefault(metric.reason, []).append(METRICS[metric.metric].header)
    return found


def _value(value: float | None) -> str:
    return number(value, 3 if value is not None and abs(value) < 100 else 1)


def _ratio(ratio: Interval) -> str:
    if ratio.value is None:
        return "–"
    return f"{ratio.value:.3f}" + (f" [{ratio.low:.3f}, {ratio.high:.3f}]" if ratio.low is not None else "")


def _outputs(outputs: OutputsComparison | None, reason: str | None) -> Iterator[Block]:
    if outputs is None:
        yield Line(text=f"outputs: not compared: {reason}")
        return
    if not outputs.num_compared:
        yield Line(text="outputs: nothing to compare")
        return
    control = outputs.control_share_identical
    line = f"outputs: {outputs.num_identical} of {outputs.num_compared} identical ({outputs.share_identical:.1%}"
    line += f"; two runs of A: {control:.1%}, {outputs.verdict})" if control is not None else ")"
    if outputs.first_difference_min is not None:
        line += (
            f"; the first difference is at token {outputs.first_difference_min}, "
            f"the median at {outputs.first_difference_p50:g}"
        )
    if outputs.num_prompts_differ:
        line += f"; {outputs.num_prompts_differ} later turns had other prompts, because earlier replies differ"
    yield Line(text=line)
    if outputs.examples:
        yield Table(
            headers=("prompt", "A", "other", "turn", "token"),
            rows=[
                (
                    example.prompt_id,
                    _text(example.baseline_text, example.baseline_token),
                    _text(example.text, example.token),
                    str(example.turn),
                    str(example.position),
                )
                for example in outputs.examples
            ],
            num_texts=3,
        )


def _text(text: object, token: int | None) -> str:
    """Returns the text around a divergence; the token where there is none."""
    return text if isinstance(text, str) else "the end" if token is None else f"token {token}"


def _differences(differences: Sequence[Difference], names: Sequence[str]) -> Iterator[Block]:
    if not differences:
        yield Line(text="none in configuration, engine, checkpoints and environment")
        return
    of_engine = [difference for difference in differences if difference.section == "engine"]
    shown = [difference for difference in differences if difference not in of_engine[MOST_OF_ENGINE:]]
    yield Table(
        headers=("section", "field", *names),
        rows=[(item.section, item.field, *(_values(values) for values in item.values)) for item in shown],
        num_texts=2 + len(names),
    )
    if len(of_engine) > MOST_OF_ENGINE:
        yield Line(text=f"{len(of_engine) - MOST_OF_ENGINE} more of the engine's settings: --format json", tone="quiet")


def _values(values: Sequence[object]) -> str:
    text = " | ".join("null" if value is None else str(value) for value in values) or "–"
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"


def table_csv(comparison: Comparison) -> str:
    """Returns one row for each metric of each cell, made safe for spreadsheets."""
    file = io.StringIO()
    writer = csv.DictWriter(file, CSV_COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in _csv_rows(comparison):
        writer.writerow({name: defuse(value) if isinstance(value, str) else value for name, value in row.items()})
    return file.getvalue()


def _csv_rows(comparison: Comparison) -> Iterable[dict[str, object]]:
    for cell in comparison.cells:
        for metric in cell.metrics:
            yield {
                "archive": comparison.archives[cell.archive],
                "reference_archive": comparison.archives[0],
                "cell": cell.name,
                "metric": metric.metric,
                "reference": metric.reference,
                "value": metric.value,
                "ratio": metric.ratio.value,
                "ratio_low": metric.ratio.low,
                "ratio_high": metric.ratio.high,
                "p_value": metric.p_value,
                "verdict": metric.verdict,
                "reason": metric.reason,
                "num_requests": cell.overlap.num_requests,
                "num_conversations": cell.overlap.num_conversations,
                "num_reference_runs": len(cell.reference_runs),
                "num_runs": len(cell.runs),
            }
