"""How exact and how cheap a load generator is over HTTP: `python benchmarks/http_clients.py --aiperf PATH ...`.

Runs the project and, where their paths are given, AIPerf, `vllm bench serve` and GuideLLM, in turn, against the same
server of known truth (tests/helpers/timed_server.py), which states when it sent each event. Each client's own record
is joined with that statement, request by request:

- error of TTFT: the client's against the time from when the server had read the request to its first write; once more
  without the first requests, as many as are in flight, whose connections are all opened at once;
- error of the step time: the client's time between two events against that between the server's two writes;
- CPU: user and system time of the client's whole process tree between the first request and the last event, as read
  from the system five times a second, so start-up and reports are not in it;
- acceptance: whether what the client says each step accepted is what the server did.

A server that is late is no error of the client's: the errors are against when it wrote, and its lateness is printed.
Prints a Markdown table, and with --out writes all values as JSON.
"""

import argparse
import json
import math
import os
import platform
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from http_client_errors import compare, keys, largest_load_below, lateness_ms, p50_and_p99, read_statement
from http_client_tools import ROOT, TARGET, AIPerf, GuideLLM, Job, Ours, Tool, VLLMBench, python_path

SAMPLE_S = 0.2
TREE_S = 1.0
"""How often the process tree is walked, which costs more than to read the times of its processes."""
LIMIT_MS = 2.0
"""A load is within reach of a client if its median errors are below this."""
TOKENS_PER_STEP = 2.4
"""About, of the server's replies."""


class CPUClock(threading.Thread):
    """Reads the CPU time of a process tree again and again."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._root = psutil.Process(pid)
        self._used_s: dict[int, float] = {}
        self._ended = threading.Event()
        self.times_ns: list[int] = []
        self.sums_s: list[float] = []

    def run(self) -> None:
        """Reads until `stop`."""
        tree, walked_s = [self._root], -math.inf
        while not self._ended.wait(SAMPLE_S):
            if time.monotonic() - walked_s > TREE_S:
                try:
                    tree, walked_s = [self._root, *self._root.children(recursive=True)], time.monotonic()
                except psutil.Error:
                    return
            for process in tree:
                try:
                    used = process.cpu_times()
                except psutil.Error:
                    continue  # ended: what it had used is kept
                self._used_s[process.pid] = used.user + used.system
            self.times_ns.append(time.monotonic_ns())
            self.sums_s.append(sum(self._used_s.values()))

    def stop(self) -> None:
        """Ends the thread."""
        self._ended.set()
        self.join()

    def between(self, began_ns: int, ended_ns: int) -> float:
        """Returns the CPU seconds of a window."""
        at_begin, at_end = np.interp((began_ns, ended_ns), self.times_ns, self.sums_s)
        return float(at_end - at_begin)


def run_tool(tool: Tool, job: Job, timeout_s: float) -> CPUClock:
    """Runs a client to its end.

    Raises:
        ValueError: it failed, or took too long.
    """
    environment = {**os.environ, **tool.environment(job)}
    with (job.folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            tool.command(job), env=environment, cwd=job.folder, stdout=log, stderr=log, start_new_session=True
        )
        clock = CPUClock(process.pid)
        clock.start()
        try:
            status: int | None = process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            status = None
        finally:
            clock.stop()
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    if status != 0:
        said = (job.folder / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        raise ValueError(f"{'took too long' if status is None else f'exit status {status}'}: {''.join(said)[:300]}")
    return clock


def point(options: argparse.Namespace, tool: Tool, in_flight: int, step_ms: float, folder: Path) -> dict[str, Any]:
    """Returns what one run of a client says, or why it says nothing."""
    request_s = (options.ttft_ms + options.tokens / TOKENS_PER_STEP * step_ms) / 1e3
    number = in_flight * max(2, math.ceil(options.seconds / request_s))
    statement = folder / "statement.jsonl"
    server = subprocess.Popen(
        [
            *(sys.executable, "-m", "tests.helpers.timed_server", str(statement)),
            *("--processes", str(options.server_processes), "--step-ms", str(step_ms)),
            *("--ttft-ms", str(options.ttft_ms)),
        ],
        cwd=ROOT,
        env={**os.environ, "MOCK_MODEL": TARGET.name, "PYTHONPATH": python_path()},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert server.stdout is not None
    job = Job(f"http://127.0.0.1:{server.stdout.readline().strip()}", in_flight, number, options.tokens, folder)
    result: dict[str, Any] = {"client": tool.name, "in_flight": in_flight, "step_ms": step_ms, "requests": number}
    try:
        clock = run_tool(tool, job, options.timeout_s)
    except ValueError as error:
        return result | {"failed": str(error)}
    finally:
        server.terminate()
        server.wait()
    stated = read_statement(statement)
    try:
        seen = tool.read(job)
        if len(seen) < number:
            raise ValueError(f"it holds {len(seen)} of {number} requests")
        errors = compare(seen, keys(stated))
        totals = tool.totals(job)
    except (ValueError, KeyError, OSError) as error:
        return result | {"failed": f"its record cannot be compared: {error!r}"}
    duration_s = (errors.ended_ns - errors.began_ns) / 1e9
    cpu_s = clock.between(errors.began_ns, errors.ended_ns)
    inside = [sent for sent in stated if errors.began_ns <= sent.received_ns]
    true_totals = sum(len(sent.per_step) for sent in inside), sum(sum(sent.per_step) for sent in inside)
    return result | {
        "compared_requests": len(errors.ttft_ms),
        "requests_with_other_events": errors.num_other_events,
        "ttft_error_ms": p50_and_p99(errors.ttft_ms),
        "later_ttft_error_ms": p50_and_p99(errors.ttft_ms[in_flight:]),
        "step_error_ms": p50_and_p99(errors.gaps_ms),
        "cpu_s_per_1000_events": 1e3 * cpu_s / errors.num_events,
        "cpu_s_whole_command": clock.sums_s[-1],
        "events": errors.num_events,
        "events_per_s": errors.num_events / duration_s,
        "acceptance_is_exact": errors.counts_are_exact,
        "totals_are_exact": None if totals is None else totals == true_totals,
        "server_lateness_ms": p50_and_p99(lateness_ms(inside)),
    }


def summarized(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Returns one entry for each client and load: medians over the repeats that did not fail."""
    groups: dict[tuple[int, str], list[dict[str, Any]]] = {}
    for result in results:
        groups.setdefault((result["in_flight"], result["client"]), []).append(result)
    rows = []
    for (in_flight, client), runs in sorted(groups.items()):
        good = [run for run in runs if "failed" not in run]
        row: dict[str, Any] = {"client": client, "in_flight": in_flight, "step_ms": runs[0]["step_ms"]}
        row["num_failed"] = len(runs) - len(good)
        for name in ("ttft_error_ms", "later_ttft_error_ms", "step_error_ms", "server_lateness_ms"):
            pairs = [run[name] for run in good if run[name] is not None]
            row[name] = [statistics.median(values) for values in zip(*pairs, strict=True)] or None
        for name in ("cpu_s_per_1000_events", "events_per_s"):
            row[name] = statistics.median(run[name] for run in good) if good else None
        row["requests_with_other_events"] = sum(run["requests_with_other_events"] for run in good)
        told = [run["acceptance_is_exact"] for run in good]
        sums = [run["totals_are_exact"] for run in good]
        row["acceptance"] = "not told"
        if told and None not in told:
            row["acceptance"] = "exact" if all(told) else "wrong"
        elif sums and None not in sums:
            row["acceptance"] = "totals exact" if all(sums) else "totals wrong"
        rows.append(row)
    return rows


COLUMNS = (
    *("in flight", "step (ms)", "client", "TTFT error p50 / p99 (ms)"),
    *("without the first requests", "step time error p50 / p99 (ms)"),
    *("CPU ms per 1,000 events", "events/s", "acceptance", "server late p50 / p99 (ms)"),
)


def table(rows: list[dict[str, Any]]) -> str:
    """Returns the rows as a Markdown table."""

    def pair(values: list[float] | None) -> str:
        if values is None:
            return "–"
        return " / ".join(f"{value:.2f}" if value >= 0.01 else f"{value:.1g}" for value in values)

    lines = [f"| {' | '.join(COLUMNS)} |", f"|{' --- |' * len(COLUMNS)}"]
    for row in rows:
        head = f"| {row['in_flight']:,} | {row['step_ms']:g} | {row['client']} |"
        if row["events_per_s"] is None:
            lines.append(f"{head} failed | – | – | – | – | – | – |")
            continue
        others = row["requests_with_other_events"]
        note = f" ({others:,} requests left out)" if others else ""
        cells = [pair(row["ttft_error_ms"]), pair(row["later_ttft_error_ms"]), pair(row["step_error_ms"]) + note]
        cells += [f"{1e3 * row['cpu_s_per_1000_events']:.1f}", f"{row['events_per_s']:,.0f}", row["acceptance"]]
        lines.append(f"{head} {' | '.join([*cells, pair(row['server_lateness_ms'])])} |")
    return "\n".join(lines)


def reach(rows: list[dict[str, Any]]) -> dict[str, int | None]:
    """Returns the largest load within each client's reach."""
    found: dict[str, dict[int, list[float]]] = {}
    for row in rows:
        medians = [row[name][0] for name in ("ttft_error_ms", "step_error_ms") if row[name] is not None]
        found.setdefault(row["client"], {})[row["in_flight"]] = medians or [math.inf]
    return {client: largest_load_below(LIMIT_MS, loads) for client, loads in found.items()}


def parse() -> argparse.Namespace:
    """Returns the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--aiperf", type=Path, help="AIPerf's executable; left out if not given")
    parser.add_argument("--vllm", type=Path, help="the Python of an environment with vLLM; left out if not given")
    parser.add_argument("--guidellm", type=Path, help="GuideLLM's executable; left out if not given")
    parser.add_argument("--override", action="append", default=[], help="for the project's run, as in load.x=1")
    parser.add_argument(
        "--clients", action="append", default=[], help="runs the project once more with load.clients=this, such as auto"
    )
    parser.add_argument("--in-flight", default="64,256,512,1024,2048,4096", help="loads, separated by commas")
    parser.add_argument("--step-ms", type=float, default=10.0)
    parser.add_argument(
        "--most-events-per-s",
        type=float,
        default=math.inf,
        help="where a load would make more, its step time is raised to this: so that few cores hold it",
    )
    parser.add_argument("--ttft-ms", type=float, default=50.0)
    parser.add_argument("--tokens", type=int, default=64, help="of each reply")
    parser.add_argument("--seconds", type=float, default=10.0, help="of load in each run, about; at least 2 rounds")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--server-processes", type=int, default=2)
    parser.add_argument("--timeout-s", type=float, default=600.0, help="of one client's run")
    parser.add_argument("--out", type=Path, help="where to write all values as JSON")
    return parser.parse_args()


def main() -> None:
    """Measures, and prints the table."""
    options = parse()
    tools: list[Tool] = [Ours(options.override)]
    tools += [Ours(options.override, clients) for clients in options.clients]
    for make, path in ((AIPerf, options.aiperf), (VLLMBench, options.vllm), (GuideLLM, options.guidellm)):
        if path is None:
            print(f"{make.name} is left out: no path was given", file=sys.stderr)
        else:
            tools.append(make(path.absolute()))
    results = []
    for turn in range(options.repeats):
        for in_flight in map(int, options.in_flight.split(",")):
            step_ms = max(options.step_ms, 1e3 * in_flight / options.most_events_per_s)
            for tool in tools if turn % 2 == 0 else reversed(tools):
                with tempfile.TemporaryDirectory() as folder:
                    result = point(options, tool, in_flight, step_ms, Path(folder))
                print(json.dumps(result), file=sys.stderr, flush=True)
                results.append(result)
    rows = summarized(results)
    print(table(rows))
    print(f"\nLargest load at which the median errors are below {LIMIT_MS:g} ms, of those measured:")
    for client, load in reach(rows).items():
        print(f"- {client}: {'none' if load is None else f'{load:,} in flight'}")
    if options.out is not None:
        machine = {"cores": len(os.sched_getaffinity(0)), "python": platform.python_version()}
        versions = {tool.name: tool.version() for tool in tools}
        whole = {"machine": machine, "versions": versions, "points": rows, "runs": results}
        options.out.write_text(json.dumps(whole, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
