"""What a server's front end costs against the same engine in process: `python benchmarks/server_cost.py FOLDER`.

Runs the same cells in process and behind a server that the run starts, on one engine each: random prompts of one length
and replies of one length, so that the work is fixed, under closed loads and Poisson arrivals. At the loads of
`--clients-at` the server's cells are run with `load.clients=auto` too. Then it reads the cells that finished, and
writes table.md and table.csv into FOLDER.

`--minutes` bounds the whole: what runs then is stopped as by Ctrl-C, and the table has what is finished. The same
command again goes on. All other arguments are the sweeps': `engine.attention_backend=triton`.
"""

import argparse
import csv
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, geometric_mean
from typing import Any, NamedTuple

import numpy as np
from limited_run import run_for

from specdec_bench.archive import RunDirectory
from specdec_bench.compare.intervals import around, log_margin_of_runs
from specdec_bench.compare.losslessness import compare, outputs

FAMILIES = ("vllm", "sglang")
"""Each is an engine in process and, with _server, behind a server."""
CLOSED = """\
# @package _global_
load: {{concurrency: {load}, num_warmup: {warmup}, clients: "{clients}"}}
dataset: {{num_prompts: {number}}}
"""
POISSON = """\
# @package _global_
defaults: [{{override /load: poisson}}, _self_]
load: {{rate: {load}, duration_s: {seconds}, num_warmup: {warmup}}}
dataset: {{num_prompts: {number}}}
"""
MOST_WARMUP = 256
LEAST_LEFT_S = 20.0
"""With less time left, no further engine is started."""
MANY = 3
"""So many replicates give an interval."""


class Sweep(NamedTuple):
    """The cells of one engine."""

    method: str
    is_server: bool
    experiments: Mapping[str, str]
    """YAML by name."""

    @property
    def name(self) -> str:
        """Returns its folder's name."""
        return f"{self.method}_{'server' if self.is_server else 'in_process'}"


class Cell(NamedTuple):
    """A finished cell."""

    run: RunDirectory
    values: Mapping[str, float | None]
    words: Mapping[str, str]
    replicate: int


Key = tuple[str, str, float, str]
"""Method, kind of load, load, clients as they were asked for."""


def sweeps(options: argparse.Namespace) -> Iterator[Sweep]:
    """Yields what is to be run, the most important first."""
    closed, rates, clients_at = (numbers(text) for text in (options.loads, options.rates, options.clients_at))
    for method in options.methods.split(","):
        for is_server in (False, True) if options.side is None else (options.side == "server",):
            found = {}
            for load in closed:
                number = int(load * max(2, math.ceil(options.requests / load)))
                for clients in ("1", "auto") if is_server and load in clients_at else ("1",):
                    found[f"at_{load:g}_clients_{clients}"] = CLOSED.format(
                        load=int(load), number=number, warmup=int(min(load, MOST_WARMUP)), clients=clients
                    )
            for rate in rates:
                found[f"rate_{rate:g}"] = POISSON.format(
                    load=rate,
                    number=max(1, round(rate * options.seconds)),
                    seconds=options.seconds,
                    warmup=int(min(max(rate, 1), MOST_WARMUP)),
                )
            yield Sweep(method, is_server, found)


def numbers(text: str) -> list[float]:
    """Returns the numbers of a list separated by commas."""
    return [float(word) for word in text.split(",") if word]


def arguments(options: argparse.Namespace, sweep: Sweep) -> list[str]:
    """Returns the arguments of run.py that begin a sweep, or go on with it."""
    folder = options.folder.resolve() / sweep.name
    if (folder / "sweep.json").is_file():
        return [f"resume={folder}"]
    conf = options.folder.resolve() / "conf" / sweep.name
    for name, text in sweep.experiments.items():
        path = conf / f"experiment/{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    most = max(map(int, numbers(options.loads)), default=256)
    return [
        "-m",
        f"--config-dir={conf}",
        f"engine={options.engine}{'_server' if sweep.is_server else ''}",
        f"engine.max_num_seqs={most}",
        f"model={options.model}",
        "dataset=random",
        f"dataset.input_tokens={options.input_tokens}",
        f"sampling.max_new_tokens={options.tokens}",
        "sampling.ignore_eos=true",
        f"spec={sweep.method}",
        f"experiment={','.join(sweep.experiments)}",
        f"replicate=range(0,{options.replicates})",
        "order=replicates",
        f"hydra.sweep.dir={folder}",
        *options.overrides,
    ]


def read(folder: Path) -> dict[Key, list[Cell]]:
    """Returns a sweep's finished cells."""
    found: dict[Key, list[Cell]] = {}
    for path in sorted(folder.glob("*/summary.json")):
        run = RunDirectory.open(path.parent)
        manifest, summary = run.manifest(), run.summary()
        if manifest.status != "finished" or manifest.load is None:
            continue
        config: Any = manifest.config
        key = (
            config["spec"]["name"],
            config["load"]["name"],
            float(manifest.load.value or 0),
            config["load"]["clients"],
        )
        lateness, check = summary.client.lateness_ms, summary.acceptance.cross_check
        values = {
            "tokens_per_s": summary.throughput.output_tps,
            "ttft_p50_ms": summary.latency.ttft_ms.p50,
            "ttft_p99_ms": summary.latency.ttft_ms.p99,
            "tpot_mean_ms": summary.latency.tpot_ms.mean,
            "step_p50_ms": summary.latency.step_time_ms.p50,
            "acceptance_length": summary.acceptance.pooled.acceptance_length,
            "acceptance_length_drafted": summary.acceptance.pooled.acceptance_length_drafted,
            "late_p50_ms": None if lateness is None else lateness.p50,
            "late_p99_ms": None if lateness is None else lateness.p99,
            "joined_share": summary.joined_share,
            "merged_share": summary.merged_share,
            "clients": float(manifest.num_clients or 1),
            "finished": float(summary.requests.finished),
            "failed": float(summary.requests.failed),
        }
        difference = "–" if check is None else str(check.difference.accepted)
        words = {
            "saturated": str(summary.client.saturated),
            "source": summary.acceptance.source or "–",
            "accepted_less_totals": difference,
        }
        found.setdefault(key, []).append(Cell(run, values, words, config["replicate"]))
    return found


def mean(cells: Sequence[Cell], name: str) -> float | None:
    """Returns the mean over replicates; None if one of them has no such value."""
    values = [value for cell in cells if (value := cell.values[name]) is not None]
    return fmean(values) if values and len(values) == len(cells) else None


def ratio(server: Sequence[Cell], in_process: Sequence[Cell]) -> tuple[float | None, float | None, float | None]:
    """Returns the server's throughput relative to in process: geometric mean over pairs of replicates, 95% interval."""
    plain = {cell.replicate: cell.values["tokens_per_s"] for cell in in_process}
    ratios = [
        own / other for cell in server if (own := cell.values["tokens_per_s"]) and (other := plain.get(cell.replicate))
    ]
    if not ratios:
        return None, None, None
    value = geometric_mean(ratios)
    if len(ratios) < MANY:
        return value, None, None
    interval = around(value, log_margin_of_runs(np.array(ratios)))
    return value, interval.low, interval.high


def same_output(server: Sequence[Cell], in_process: Sequence[Cell]) -> float | None:
    """Returns the share of requests with the same tokens both ways, in the first replicate that both have."""
    plain = {cell.replicate: cell for cell in in_process}
    for cell in server:
        if (other := plain.get(cell.replicate)) is not None:
            return compare(outputs(other.run.requests()), outputs(cell.run.requests())).share_identical
    return None


PER_SIDE = (
    *("tokens_per_s", "ttft_p50_ms", "ttft_p99_ms", "tpot_mean_ms", "step_p50_ms", "late_p50_ms", "late_p99_ms"),
    *("acceptance_length", "acceptance_length_drafted", "merged_share"),
)


def rows(folder: Path, methods: Sequence[str]) -> list[dict[str, Any]]:
    """Returns one row for each load of a method that has finished cells."""
    found: list[dict[str, Any]] = []
    for method in methods:
        in_process, server = read(folder / f"{method}_in_process"), read(folder / f"{method}_server")
        for key in sorted(in_process.keys() | server.keys(), key=lambda key: (key[1], key[2], key[3] == "auto")):
            here, there = in_process.get((*key[:3], "1"), []), server.get(key, [])
            row: dict[str, Any] = {"method": method, "load": key[1], "value": key[2], "clients_asked": key[3]}
            row |= {"runs_in_process": len(here), "runs_server": len(there), "clients": mean(there, "clients")}
            row |= {f"{name}_in_process": mean(here, name) for name in PER_SIDE}
            row |= {f"{name}_server": mean(there, name) for name in PER_SIDE}
            row |= dict(zip(("ratio", "ratio_low", "ratio_high"), ratio(there, here), strict=True))
            row |= {name: mean(there, name) for name in ("joined_share", "finished", "failed")}
            for side, cells in (("in_process", here), ("server", there)):
                for name in ("saturated", "source", "accepted_less_totals"):
                    row[f"{name}_{side}"] = " ".join(sorted({cell.words[name] for cell in cells}))
            found.append(row | {"same_output": same_output(there, here)})
    return found


HEADERS = (
    *("method", "load", "clients", "tokens/s in process", "behind the server", "ratio"),
    *(
        "TTFT p50 / p99 (ms) in process",
        "server",
        "TPOT (ms) in process",
        "server",
        "client late p50 / p99 (ms) in process",
        "server",
    ),
    *("saturated", "joined", "acceptance length (drafted) in process", "server", "same output"),
)


def table(found: Sequence[Mapping[str, Any]]) -> str:
    """Returns the rows as a Markdown table."""
    lines = [f"| {' | '.join(HEADERS)} |", f"|{' --- |' * len(HEADERS)}"]
    for row in found:

        def number(name: str, form: str = ".2f", row: Mapping[str, Any] = row) -> str:
            return "–" if row[name] is None else format(row[name], form)

        def pair(name: str, side: str, form: str = ".1f", number: Any = number) -> str:
            return f"{number(f'{name}_p50_ms_{side}', form)} / {number(f'{name}_p99_ms_{side}', form)}"

        interval = "" if row["ratio_low"] is None else f" [{row['ratio_low']:.2f}, {row['ratio_high']:.2f}]"
        load = f"{row['value']:,g} {'in flight' if row['load'] == 'closed' else 'conversations/s'}"
        lengths = [
            f"{number(f'acceptance_length_drafted_{side}', '.3f')} ({row[f'source_{side}'] or '–'})" for side in SIDES
        ]
        cells = [row["method"], load, number("clients", "g")]
        cells += [number(f"tokens_per_s_{side}", ",.0f") for side in SIDES] + [number("ratio") + interval]
        cells += [pair("ttft", side) for side in SIDES] + [number(f"tpot_mean_ms_{side}") for side in SIDES]
        cells += [pair("late", side) for side in SIDES]
        cells += [" / ".join(row[f"saturated_{side}"] or "–" for side in SIDES), number("joined_share", ".2%")]
        lines.append(f"| {' | '.join([*cells, *lengths, number('same_output', '.1%')])} |")
    return "\n".join(lines)


SIDES = ("in_process", "server")


def parse() -> argparse.Namespace:
    """Returns the command line's options."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--engine", choices=FAMILIES, default="vllm")
    parser.add_argument("--model", default="smollm2_135m_q4_1")
    parser.add_argument("--methods", default="none,ngram", help="in the order in which they are run")
    parser.add_argument("--side", choices=SIDES, help="runs this one alone; both are run by default")
    parser.add_argument("--loads", default="64,256,1024,2048", help="requests in flight, separated by commas")
    parser.add_argument("--rates", default="100", help="conversations per second, separated by commas; may be empty")
    parser.add_argument(
        "--clients-at", default="1024,2048", help="loads at which the server is asked by more clients too"
    )
    parser.add_argument("--requests", type=int, default=1024, help="of a closed load at least; at least two rounds")
    parser.add_argument("--seconds", type=float, default=8.0, help="of Poisson arrivals")
    parser.add_argument("--input-tokens", type=int, default=128)
    parser.add_argument("--tokens", type=int, default=64, help="of each reply")
    parser.add_argument("--replicates", type=int, default=2)
    parser.add_argument(
        "--minutes", type=float, help="after which the sweeps are stopped; they run to their end by default"
    )
    parser.add_argument("--table-only", action="store_true", help="runs nothing, and reads what is finished")
    options, overrides = parser.parse_known_args()
    options.overrides = overrides
    return options


def main() -> None:
    """Runs the sweeps, or goes on with them, and writes the table."""
    options = parse()
    began_s, status = time.perf_counter(), 0
    for sweep in () if options.table_only else sweeps(options):
        left_s = options.minutes and 60 * options.minutes - (time.perf_counter() - began_s)
        if left_s is not None and left_s < LEAST_LEFT_S:
            print(f"{sweep.name}: not begun, no time is left", file=sys.stderr)
            break
        status = run_for(left_s, *arguments(options, sweep)) or status
        print(f"{sweep.name}: {time.perf_counter() - began_s:.0f} s after the beginning", file=sys.stderr, flush=True)
    found = rows(options.folder, options.methods.split(","))
    text = table(found)
    print(text)
    options.folder.mkdir(parents=True, exist_ok=True)
    (options.folder / "table.md").write_text(text + "\n", encoding="utf-8")
    with (options.folder / "table.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(found[0]) if found else ["method"])
        writer.writeheader()
        writer.writerows(found)
    sys.exit(status)


if __name__ == "__main__":
    main()
