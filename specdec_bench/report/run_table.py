"""The table at the end of a run. The only place where numbers are rounded."""

from collections.abc import Mapping

from rich import box
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

from specdec_bench.errors import abbreviated
from specdec_bench.metrics.declarations import BY_NAME
from specdec_bench.records.summary import (
    Acceptance,
    CategoryAcceptance,
    Cost,
    Distribution,
    EnergyUse,
    Goodput,
    Latency,
    StepAcceptance,
    Summary,
)
from specdec_bench.records.unused import UnusedTree, describe
from specdec_bench.report.text import literal

LATENCIES = ("ttft_ms", "tpot_ms", "step_time_ms", "itl_ms", "e2e_ms")
"""The rows of the latency table."""
FROM_SCHEDULE = ("queue_time_ms", "ttft_from_schedule_ms", "e2e_from_schedule_ms")
"""Shown for an open load: a request may be sent after it was due, and its user waits from the time it was due."""
ACCEPTANCE = ("acceptance_length", "acceptance_length_drafted", "draft_acceptance_rate")
NAME_WIDTH = 16
"""The smallest width of a table's names in a terminal that is too narrow for the table."""


def print_summary(summary: Summary, console: Console, *, title: str, path: str) -> None:
    """Prints the run's warnings, acceptance by category, latency, throughput and directory."""
    for warning in run_warnings(summary):
        console.print(Text(literal(warning), style="bold red"), soft_wrap=True)
    console.print(Text(literal(title), style="bold"), soft_wrap=True)
    print_whole(console, _acceptance(summary.acceptance, summary.requests.finished))
    if summary.acceptance.by_num_proposed:
        print_whole(console, _by_num_proposed(summary.acceptance.by_num_proposed))
    print_whole(console, _latency(summary.latency))
    throughput = summary.throughput
    console.print(
        Text(
            f"throughput  {number(throughput.output_tps, 1)} tokens/s"
            f" (steady {number(throughput.output_tps_steady, 1)},"
            f" per user {number(throughput.output_tps_per_user, 1)},"
            f" per GPU {number(throughput.output_tps_per_gpu, 1)}),"
            f" {number(throughput.request_rate, 2)} requests/s over {number(throughput.duration_s, 1)} s"
        ),
        soft_wrap=True,
    )
    if summary.slo.objectives:
        console.print(Text(goodput_line(summary.slo)), soft_wrap=True)
    if (line := cost_line(summary.energy, summary.cost)) is not None:
        console.print(Text(literal(line)), soft_wrap=True)
    console.print(Text(f"run directory  {literal(path)}"), soft_wrap=True)


def goodput_line(slo: Goodput) -> str:
    """Returns one line that says how many requests met the objectives, and which was missed most."""
    stated = ", ".join(f"{BY_NAME[name].header} {limit:g} ms" for name, limit in slo.objectives.items())
    share = "–" if slo.share_within_slo is None else f"{slo.share_within_slo:.1%}"
    most = "" if slo.most_missed is None else f"; missed most: {BY_NAME[slo.most_missed].header}"
    return f"goodput  {number(slo.goodput, 2)} requests/s, {share} within {stated}{most}"


def cost_line(energy: EnergyUse, cost: Cost) -> str | None:
    """Returns one line on energy and cost; None if there is nothing to say."""
    parts = []
    if energy.energy_j is not None:
        sampled = ", from sampled power" if energy.is_sampled else ""
        parts.append(
            f"energy  {number(energy.energy_per_token_j, 3)} J/token ({number(energy.mean_power_w, 0)} W, "
            f"idle {number(energy.idle_power_w, 0)} W{sampled})"
        )
    elif energy.missing is not None:
        parts.append(f"energy  not measured: {energy.missing}")
    if cost.cost_per_million_tokens is not None:
        parts.append(f"cost  {number(cost.cost_per_million_tokens, 3)} per million output tokens")
    return "; ".join(parts) or None


def print_line(summary: Summary, console: Console, *, title: str, path: str, told: set[str]) -> None:
    """Prints a sweep cell's results in one line, after its warnings that are not in `told` yet."""
    for warning in run_warnings(summary):
        if warning not in told:
            told.add(warning)
            console.print(Text(literal(warning), style="bold red"), soft_wrap=True)
    latency, throughput = summary.latency, summary.throughput
    console.print(
        Text(
            f"{literal(title)}: acceptance length {number(summary.acceptance.pooled.acceptance_length, 3)},"
            f" {number(throughput.output_tps, 1)} tokens/s, TPOT {number(latency.tpot_ms.mean, 2)} ms,"
            f" {summary.requests.finished} requests finished  {literal(path)}"
        ),
        soft_wrap=True,
    )


def number(value: float | None, digits: int) -> str:
    """Returns the value rounded, or a dash where it is undefined."""
    return "–" if value is None else f"{value:,.{digits}f}"


def print_whole(console: Console, table: Table) -> None:
    """Prints a table without cutting a cell. Its names wrap first; then its lines exceed the terminal's width."""
    natural = console.measure(table, options=console.options.update(max_width=10_000)).maximum
    if natural > console.width:
        longest = max((cell_len(str(cell)) for cell in table.columns[0].cells), default=0)
        table.width = max(console.width, natural - max(longest - NAME_WIDTH, 0))
    console.print(table, crop=False)


def run_warnings(summary: Summary) -> list[str]:
    """Returns a line for everything that distorts the metrics of a run, or is missing from them."""
    requests = summary.requests
    total = requests.finished + requests.failed + requests.skipped + requests.interrupted
    warnings = [
        f"{count} of {total} requests {words}; no metric includes them"
        for count, words in (
            (requests.failed, "FAILED"),
            (requests.skipped, f"SKIPPED: longer than the model's context ({abbreviated(requests.skipped_prompts)})"),
            (requests.interrupted, "CUT OFF by the end of the run"),
        )
        if count
    ]
    if summary.partial:
        warnings.append(f"PARTIAL RUN: status {summary.status}")
    late = summary.client.lateness_ms
    if summary.client.saturated and late is not None:
        on_average = "" if late.mean is None else f"{late.mean:.1f} on average, "
        warnings.append(
            f"SATURATED CLIENT: the measuring loop was {late.p50:.1f} ms late at the median ({on_average}"
            f"{late.max:.0f} at most), which the measured times may hold; acceptance is not affected"
        )
    warnings += dataset_warnings(summary.dataset.unused or {})
    warnings += summary.warnings
    if summary.synthetic:
        warnings.append(f"SYNTHETIC: {summary.synthetic}")
    return warnings


def dataset_warnings(unused: UnusedTree) -> list[str]:
    """Returns a line for all unused or altered parts of a dataset, except fields: only manifest and log list those."""
    return [f"{line}; all are in manifest.json" for line in describe(unused, ["rows", "parts", "files"])]


def _acceptance(acceptance: Acceptance, num_finished: int) -> Table:
    num_positions = len(acceptance.pooled.acceptance_joint or [])
    table = Table(box=box.SIMPLE_HEAD, title=f"acceptance (source: {acceptance.source or 'plain decoding'})")
    table.add_column("category", overflow="fold")
    length, drafted, rate = (BY_NAME[name].short_header for name in ACCEPTANCE)
    for header in ("requests", length, "macro", drafted, rate, *(f"≥{i + 1}" for i in range(num_positions))):
        table.add_column(header, justify="right", no_wrap=True)

    def row(name: str, num_requests: int, block: Acceptance | CategoryAcceptance) -> list[str | Text]:
        pooled = block.pooled
        joint = pooled.acceptance_joint or [None] * num_positions
        return [
            Text(literal(name)),
            str(num_requests),
            number(pooled.acceptance_length, 3),
            number(block.macro.acceptance_length, 3),
            number(pooled.acceptance_length_drafted, 3),
            number(pooled.draft_acceptance_rate, 3),
            *(number(value, 3) for value in joint),
        ]

    for category, block in acceptance.by_category.items():
        table.add_row(*row(category, block.num_requests, block))
    table.add_section()
    table.add_row(*row("all", num_finished, acceptance), style="bold")
    return table


def _by_num_proposed(found: Mapping[str, StepAcceptance]) -> Table:
    """Returns the acceptance of verify steps by the drafts that they proposed."""
    table = Table(box=box.SIMPLE_HEAD, title="acceptance by the drafts of a step")
    positions = max(map(int, found))
    drafted = BY_NAME["acceptance_length_drafted"].short_header
    for header in ("proposed", "verify steps", drafted, *(f"≥{i + 1}" for i in range(positions))):
        table.add_column(header, justify="right", no_wrap=True)
    for length, steps in found.items():
        joint = [number(value, 3) for value in steps.acceptance_joint or ()]
        table.add_row(
            length,
            str(steps.verify_steps),
            number(steps.acceptance_length_drafted, 3),
            *joint,
            *[""] * (positions - len(joint)),
        )
    return table


def _latency(latency: Latency) -> Table:
    table = Table(box=box.SIMPLE_HEAD, title="latency (ms)")
    table.add_column("", overflow="fold")
    columns = ("mean", "p50", "p90", "p99", "max", "count")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    is_open = bool(latency.queue_time_ms.max)  # under a closed load a request is due when it is sent
    for name in (*LATENCIES, *(FROM_SCHEDULE if is_open else ())):
        times: Distribution = getattr(latency, name)
        values = (number(getattr(times, column), 0 if column == "count" else 2) for column in columns)
        table.add_row(BY_NAME[name].header, *values)
    return table
