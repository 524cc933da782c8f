"""The result of a capacity search, in a file and on the terminal."""

import csv
import io
from collections.abc import Iterable

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from specdec_bench.metrics.declarations import BY_NAME
from specdec_bench.records.capacity import CapacityResult, CapacitySide
from specdec_bench.records.interval import Interval
from specdec_bench.report.run_table import print_whole
from specdec_bench.report.text import literal


def probes_csv(sides: Iterable[CapacitySide]) -> bytes:
    """Returns the table of probes: one row for each rate that a method was tried at."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    header = ("method", "rate", "share_within_slo", "is_backlog_growing", "passed", "num_judged", "is_client_saturated")
    writer.writerow([*header, "runs"])
    for side in sides:
        for probe in side.probes:
            writer.writerow([side.method, *(getattr(probe, name) for name in header[1:]), " ".join(probe.runs)])
    return text.getvalue().encode()


def print_capacity(result: CapacityResult, console: Console, *, path: str) -> None:
    """Prints what distorts the result, the probes, each method's capacity and what speculation makes of it."""
    for warning in _warnings(result):
        console.print(Text(literal(warning), style="bold red"), soft_wrap=True)
    table = Table(box=box.SIMPLE_HEAD)
    for header in ("method", "conversations/s", "within SLO", "backlog", "requests", "verdict"):
        table.add_column(header, justify="left" if header == "method" else "right", no_wrap=True)
    for side in result.sides:
        for probe in side.probes:
            table.add_row(
                side.method,
                f"{probe.rate:g}",
                f"{probe.share_within_slo:.1%}",
                "grows" if probe.is_backlog_growing else "steady",
                f"{probe.num_judged:,}",
                "passes" if probe.passed else "fails",
            )
        table.add_section()
    print_whole(console, table)
    stated = ", ".join(f"{BY_NAME[name].header} {limit:g} ms" for name, limit in result.objectives.items())
    console.print(Text(f"objectives: {result.settings['share']:.0%} of the requests within {stated}"), soft_wrap=True)
    for side in result.sides:
        console.print(Text(_capacity(side)), soft_wrap=True)
    console.print(Text(conclusion(result), style="bold"), soft_wrap=True)
    console.print(Text(f"search directory  {literal(path)}"), soft_wrap=True)


def _warnings(result: CapacityResult) -> list[str]:
    warnings = [] if result.synthetic is None else [f"SYNTHETIC: {result.synthetic}"]
    if result.is_below_default:
        seconds, requests = result.settings["min_duration_s"], result.settings["min_requests"]
        warnings.append(
            f"SHORT PROBES: {seconds:g} s and {requests:g} requests of each run at least, which is below the default; "
            "a backlog that takes longer to show is not found"
        )
    saturated = [f"{side.method} at {p.rate:g}" for side in result.sides for p in side.probes if p.is_client_saturated]
    if saturated:
        warnings.append(f"SATURATED CLIENT: {', '.join(saturated)}; the client, not the engine, may be the limit")
    return warnings


def _capacity(side: CapacitySide) -> str:
    passed, failed = side.bracket.passed, side.bracket.failed
    if passed is None:
        return f"{side.method}: no rate passed; {failed:g} conversations/s is the lowest that was tried"
    if failed is None:
        return f"{side.method}: every rate passed; {passed:g} conversations/s is the highest that was tried"
    value = side.capacity.value
    estimate = "–" if value is None else f"{value:.4g}"
    return (
        f"{side.method}: capacity {estimate} conversations/s{_interval(side.capacity)}; {passed:g} passed and "
        f"{failed:g} failed"
    )


def _interval(interval: Interval) -> str:
    if interval.low is None or interval.high is None:
        return " (no interval)"
    return f" (95% interval {interval.low:.4g} to {interval.high:.4g})"


def conclusion(result: CapacityResult) -> str:
    """Returns what speculation makes of the capacity, in one sentence."""
    ratio = result.ratio
    if ratio.value is None:
        return "what speculation makes of the capacity is not known: a search found no two rates around it"
    factor = f"by a factor of {ratio.value:.3f}{_interval(ratio)}"
    if ratio.low is None or ratio.high is None or ratio.low <= 1 <= ratio.high:
        return f"it is not shown that speculation changes capacity under this SLO: it changes {factor}"
    return f"speculation {'raises' if ratio.value > 1 else 'lowers'} capacity under this SLO {factor}"
