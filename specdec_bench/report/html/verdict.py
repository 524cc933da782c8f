"""The verdict at the top of the page, in sentences. Every claim in it is made by `specdec_bench.compare`."""

import re
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from specdec_bench.compare.cell import Recommendation, SweepResult
from specdec_bench.compare.labels import conditions, label
from specdec_bench.compare.row import job_of, number_in, text_in
from specdec_bench.compare.speedup import Advice, NotJudged
from specdec_bench.records.manifest import amount
from specdec_bench.records.summary import Summary
from specdec_bench.report.html.data import Cell, Statement, Tone, Verdict
from specdec_bench.report.run_table import run_warnings

NAMES = {"none": "plain decoding"}
MAX_JOBS = 8
"""Jobs that a sentence names; the table of cells has all of them."""


def make_verdict(result: SweepResult, cells: Sequence[Cell], summaries: Mapping[int, Summary]) -> Verdict:
    """Returns the verdict on these cells.

    Args:
        result: the rows and recommendations.
        cells: the same cells as the page shows them.
        summaries: by job, of the cells that have one.
    """
    return Verdict(
        speed=tuple(_speed(result, cells)),
        output=tuple(_output(result)),
        distrust=tuple(_distrust(result, cells, summaries)),
    )


def _speed(result: SweepResult, cells: Sequence[Cell]) -> list[Statement]:
    is_compared = any(row.get("speedup_tpot") is not None for row in result.rows)
    if not result.recommendations or (not is_compared and len(cells) <= MAX_JOBS):
        return [_of_cell(cell, several=len(cells) > 1) for cell in cells[:MAX_JOBS]]
    return [_fastest(recommendation, result) for recommendation in result.recommendations]


def _of_cell(cell: Cell, *, several: bool) -> Statement:
    """Returns what one run measured, where there is nothing to compare it with."""
    rate, length = cell.metrics.get("output_tps"), cell.metrics.get("acceptance_length")
    who = NAMES.get(cell.name, cell.name)
    subject = f"Job {cell.job}, {who}," if several else "Plain decoding" if cell.name == "none" else who
    if rate is None or rate.value is None:
        return Statement(tone="bad", text=f"{subject} has no metrics: its status is {cell.status}.")
    at = "" if cell.load_value is None else f" at {cell.load}"  # unknown of a run that was imported
    text = f"{subject} made {rate.value:,.1f} tokens/s{at}"
    if cell.draft_length is not None and length is not None and length.value is not None:
        text += f", with {length.value:.2f}{_range(length.low, length.high)} tokens per decode step"
    if cell.draft_length is None:
        return Statement(tone="result", text=f"{text}.")
    speedup = cell.metrics.get("speedup_tpot")
    if speedup is not None and speedup.value is not None:
        interval = _range(speedup.low, speedup.high)
        return Statement(
            tone="open", text=f"{text}, {speedup.value:.2f} times as fast as plain decoding{interval}, by single runs."
        )
    return Statement(tone="open", text=f"{text}. There is no plain run to compare with, so its speedup is unknown.")


def _fastest(recommendation: Recommendation, result: SweepResult) -> Statement:
    where, advice = _where(recommendation.load, result), recommendation.advice
    if isinstance(advice, NotJudged):
        best = _largest_speedup(recommendation.load, result)
        return Statement(
            tone="open", text=f"{where}, which method is the fastest is not judged: {advice.not_judged}.{best}"
        )
    ratio = advice.over_runner_up
    over = f"{ratio.value:.3f} times as fast as {_name(advice.runner_up)}{_range(ratio.low, ratio.high, 3)}"
    plain = _over_plain(advice.best, recommendation.load, result)
    if advice.tied:
        *first, last = map(_name, (advice.best, *advice.tied))
        tied = f"{', '.join(first)} and {last}"
        return Statement(
            tone="open", text=f"{where}, {tied} are tied: the first is {over}, which may be chance.{plain}"
        )
    corrected = len(advice.p_values)
    claim = f"{where}, {_name(advice.best)} is the fastest: {over}, judged by {advice.num_runs} runs of each"
    return Statement(
        tone="result", text=f"{claim} and corrected for {corrected} comparison{'s' * (corrected != 1)}.{plain}"
    )


def _where(load: Mapping[str, Any], result: SweepResult) -> str:
    names = ["engine", "model", "dataset"]
    several = [name for name in names if len({row[name] for row in result.rows}) > 1] + conditions(
        result.varying_fields
    )
    unit = result.loads[str(load["load_axis"])].unit
    others = [f"{name}={load[name]}" for name in several]
    return ", ".join([f"At {amount(load['load_value'])} {unit}", *others])


def _name(method: str) -> str:
    return NAMES.get(method, method)


def _range(low: float | None, high: float | None, digits: int = 2) -> str:
    return "" if low is None or high is None else f" (95% {low:,.{digits}f} to {high:,.{digits}f})"


def _at(load: Mapping[str, Any], rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [row for row in rows if all(row.get(name) == value for name, value in load.items())]


def _over_plain(method: str, load: Mapping[str, Any], result: SweepResult) -> str:
    """Returns the method's speedup over plain decoding at this load, as a sentence."""
    for row in _at(load, result.replicates):
        if method != "none" and label(row, result.varying_fields) == method and row.get("speedup_tpot") is not None:
            interval = _range(row.get("speedup_tpot_low"), row.get("speedup_tpot_high"))
            return f" {method} is {row['speedup_tpot']:.2f} times as fast as plain decoding{interval}."
    return ""


def _largest_speedup(load: Mapping[str, Any], result: SweepResult) -> str:
    rows = [row for row in _at(load, result.rows) if row.get("speedup_tpot") is not None and row["spec"] != "none"]
    if not rows:
        return ""
    best = max(rows, key=lambda row: float(row["speedup_tpot"]))
    interval = _range(best.get("speedup_tpot_low"), best.get("speedup_tpot_high"))
    name = label(best, result.varying_fields)
    return f" The largest speedup measured is {best['speedup_tpot']:.2f}{interval}, of {name}."


OUTPUTS: dict[str, tuple[Tone, str]] = {
    "identical": ("good", "The output is unchanged: every reply has the tokens of plain decoding"),
    "as control": ("good", "Some replies differ from plain decoding, and no more than those of two plain runs do"),
    "fewer than control": (
        "bad",
        "The output is CHANGED: more replies differ from plain decoding than those of two plain runs do",
    ),
    "no control": (
        "open",
        "Some replies differ from plain decoding, and how many differ by chance is unknown; control=true measures it",
    ),
    "nothing compared": ("open", "No reply could be compared with plain decoding"),
    "not checked: temperature above 0": (
        "open",
        "Whether the output is unchanged is not checked: the temperature is above 0",
    ),
    "not checked: synthetic acceptance": (
        "open",
        "Whether the output is unchanged is not checked: acceptance is synthetic",
    ),
}
"""The sentence for each verdict of `losslessness.verdict`, and for each reason why there is none."""


def _output(result: SweepResult) -> list[Statement]:
    judged: dict[str, list[int]] = defaultdict(list)
    shares: dict[str, list[float]] = defaultdict(list)
    for row in result.rows:
        if row["spec"] != "none" and (verdict := text_in(row, "lossless")) is not None:
            judged[verdict].append(job_of(row))
            if (share := number_in(row, "share_identical")) is not None:
                shares[verdict].append(share)
    if not judged:
        return [
            Statement(
                tone="open", text="Whether the output is unchanged is unknown: no run can be compared with a plain one."
            )
        ]
    found = []
    for verdict in sorted(judged):
        tone, text = OUTPUTS.get(verdict, ("open", verdict))
        least = min(shares[verdict], default=1.0)
        identical = f"; at least {least:.1%} are identical" if least < 1 else ""
        found.append(Statement(tone=tone, text=f"{text} ({_jobs(judged[verdict])}{identical})."))
    return found


def _distrust(result: SweepResult, cells: Sequence[Cell], summaries: Mapping[int, Summary]) -> list[Statement]:
    reasons: dict[str, list[int]] = defaultdict(list)
    for cell in cells:
        if cell.status != "finished":
            reasons[f"status {cell.status}: {cell.note}" if cell.note else f"status {cell.status}"].append(cell.job)
    for row in result.rows:
        if row.get("not_compared"):
            reasons[f"NOT COMPARED with the plain run: {row['not_compared']}"].append(job_of(row))
        if row.get("speedup_caveat"):
            reasons[f"speedup by {row['speedup_caveat']}"].append(job_of(row))
        if row.get("acceptance_source") == "stream":
            reasons["acceptance is counted from chunks of the stream, an upper bound of the true one"].append(
                job_of(row)
            )
    for job, summary in summaries.items():
        for warning in run_warnings(summary):
            reasons[warning].append(job)
        if summary.merged_share:
            reasons["chunks held several engine steps, so step times are unknown"].append(job)
    same: dict[tuple[Any, ...], list[int]] = defaultdict(list)
    for row in result.rows:
        if row["status"] == "finished":
            same[row["cell_id"], row["replicate"]].append(job_of(row))
    for jobs in same.values():
        if len(jobs) > 1:
            reasons["several runs of the same cell and replicate; comparisons take the last one"] += jobs
    found = _group(reasons)
    several_loads = [recommendation.advice for recommendation in result.recommendations]
    if any(isinstance(advice, NotJudged) for advice in several_loads) and not result.replicates:
        found.append(
            Statement(
                tone="bad",
                text="Every cell was run once. No interval includes how much the speed varies from run to run; "
                "replicate=range(0,5) order=replicates measures that.",
            )
        )
    if any(isinstance(advice, Advice) and advice.num_runs < 5 for advice in several_loads):
        found.append(Statement(tone="open", text="Fewer than five runs of each cell make wide intervals."))
    return found


def _group(reasons: Mapping[str, Sequence[int]]) -> list[Statement]:
    """Returns a statement for each reason. Reasons that differ in numbers alone are one, with one job's numbers."""
    alike: dict[str, dict[str, Sequence[int]]] = defaultdict(dict)
    for reason, jobs in reasons.items():
        alike[re.sub(r"\d[\d.,]*", "#", reason)][reason] = jobs
    found = []
    for same in alike.values():
        (reason, first), jobs = next(iter(same.items())), sorted(set().union(*same.values()))
        numbers = f" (numbers of job {first[0]})" if len(same) > 1 else ""
        found.append(Statement(tone="bad", text=f"{_jobs(jobs)}: {reason}{numbers}."))
    return found


def _jobs(jobs: Sequence[int]) -> str:
    if len(jobs) == 1:
        return f"job {jobs[0]}"
    return f"{len(jobs)} jobs" if len(jobs) > MAX_JOBS else f"jobs {', '.join(map(str, jobs))}"
