"""Runs cells through the command line, in this environment or another, and compares what two engines made of them."""

import fcntl
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from specdec_bench.archive import RunDirectory
from specdec_bench.records.request import RequestRecord
from specdec_bench.records.summary import PooledAcceptance
from tests.helpers.draft_and_verify import GreedyModel
from tests.helpers.engine_runs import TARGET, raw_model

ROOT = Path(__file__).resolve().parents[2]
NUM_REQUESTS = 20
"""Of 16 conversations in the demo's five categories, four of which have a second turn."""
COMMON = ("model.dtype=float32", "dataset.num_prompts=16", "sampling.max_new_tokens=48", "load.num_warmup=2")
METHODS = ("none", "ngram", "draft_model", "eagle3")
CONCURRENCIES = (1, 16)
GRID = [(method, concurrency) for method in METHODS for concurrency in CONCURRENCIES]
Cells = dict[tuple[str, int], RunDirectory]
"""The finished cells of that grid by method and concurrency."""
NEAR_TIE = 1e-3
FORKED = ROOT / "tests/forked"
"""Where Python finds what lets engines start sooner."""


def environment_of(more: Mapping[str, str] | None, *folders: Path) -> dict[str, str]:
    """Returns this process's environment and more, with further folders in front of PYTHONPATH's."""
    # What an engine that ran in this process has set for itself is not theirs.
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("VLLM_")}
    found = inherited | dict(more or {})
    python_path = [*map(str, folders), *filter(None, [found.get("PYTHONPATH")])]
    return found | ({"PYTHONPATH": os.pathsep.join(python_path)} if python_path else {})


def command_line(
    folder: Path, *arguments: str, python: str = sys.executable, environment: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [python, str(ROOT / "run.py"), *arguments],
        cwd=folder,
        env=environment_of(environment, FORKED),
        capture_output=True,
        encoding="utf-8",
    )


def sweep(folder: Path, *arguments: str, **interpreter: Any) -> list[RunDirectory]:
    """Returns the finished cells of a sweep, in its order."""
    done = command_line(folder, "-m", *arguments, "hydra.sweep.dir=sweep", **interpreter)
    assert done.returncode == 0, done.stderr[-2000:]
    return cells(folder)


def cells(folder: Path) -> list[RunDirectory]:
    numbers = sorted(int(path.name) for path in (folder / "sweep").iterdir() if path.name.isdigit())
    return [RunDirectory.open(folder / "sweep" / str(number)) for number in numbers]


def sweep_once(folder: Path, *arguments: str, **interpreter: Any) -> list[RunDirectory]:
    """Returns the finished cells of a sweep that several processes ask for. The first one to ask runs it."""
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        is_there = (folder / "sweep" / "sweep.csv").is_file()
        return cells(folder) if is_there else sweep(folder, *arguments, **interpreter)


def grid_once(folder: Path, *arguments: str, **interpreter: Any) -> Cells:
    """Returns what an engine makes of the prompts with each method at each concurrency: one sweep."""
    axes = [f"spec={','.join(METHODS)}", f"load.concurrency={','.join(map(str, CONCURRENCIES))}"]
    return dict(zip(GRID, sweep_once(folder, *arguments, *COMMON, *axes, **interpreter), strict=True))


def requests(run: RunDirectory) -> dict[str, RequestRecord]:
    return {record.request_id: record for record in run.requests() if record.phase == "measure"}


def pooled(run: RunDirectory) -> PooledAcceptance:
    return run.summary().acceptance.pooled


def assert_outputs_agree(run: RunDirectory, truth: RunDirectory) -> None:
    """All outputs are the same, but for at most 5% that part where the target's two best tokens all but tie."""
    expected, found = requests(truth), requests(run)
    assert len(found) == NUM_REQUESTS
    assert found.keys() == expected.keys()
    model = GreedyModel(raw_model(TARGET, "float64"))
    divergences = []
    for request_id, record in found.items():
        other = expected[request_id]
        if record.prompt_token_ids != other.prompt_token_ids:
            continue  # the reply before it diverged, which is listed with that one
        if record.output_token_ids != other.output_token_ids:
            at = first_difference(record.output_token_ids, other.output_token_ids)
            gap = model.gap((*record.prompt_token_ids, *record.output_token_ids[:at]))
            divergences.append((request_id, at, gap))
    assert all(gap < NEAR_TIE for *_, gap in divergences), divergences
    assert len(divergences) <= 0.05 * NUM_REQUESTS, divergences


def assert_outputs_are_those_of_plain_decoding(run: RunDirectory, plain: RunDirectory) -> None:
    """All but at most 5%, where two tokens all but tie."""
    found, expected = requests(run), requests(plain)
    assert len(found) == NUM_REQUESTS
    assert found.keys() == expected.keys()
    differing = [key for key in found if found[key].output_token_ids != expected[key].output_token_ids]
    assert len(differing) <= 0.05 * len(found), differing


def first_difference(left: Sequence[int], right: Sequence[int]) -> int:
    pairs = enumerate(zip(left, right, strict=False))
    return next((at for at, (one, other) in pairs if one != other), min(len(left), len(right)))


def same_output(run: RunDirectory, truth: RunDirectory) -> list[tuple[RequestRecord, RequestRecord]]:
    """Returns the requests that have the same prompt and output in both, with a decode step: at least 9 of 10."""
    expected, found = requests(truth), requests(run)
    pairs = [
        (record, expected[request_id])
        for request_id, record in found.items()
        if (record.prompt_token_ids, record.output_token_ids)
        == (expected[request_id].prompt_token_ids, expected[request_id].output_token_ids)
        and len(expected[request_id].steps) > 1
    ]
    assert len(pairs) >= 0.9 * len(found)
    return pairs


def assert_every_chunk_is_one_step(run: RunDirectory, longest: int) -> None:
    for record in requests(run).values():
        assert record.steps_are_exact
        assert record.steps[0].num_tokens == 1
        assert all(1 <= step.num_tokens <= longest for step in record.steps)
        times = [step.received_ns for step in record.steps]
        assert times == sorted(times)
    summary = run.summary()
    assert summary.merged_chunks == 0
    assert summary.latency.step_time_ms.count == pooled(run).decode_steps


def assert_lengths_are_those_of_the_bundled_drafters(runs: Mapping[str, RunDirectory]) -> None:
    """The acceptance lengths, by method, lie where any engine has them with K=3 on the demo's prompts."""
    lengths = {method: pooled(run).acceptance_length for method, run in runs.items()}
    assert lengths["none"] == 1
    assert lengths["ngram"] > 1.2
    assert 1.6 < lengths["draft_model"] < 3.2
    assert lengths["eagle3"] >= 1.8


def assert_same_steps(served: RequestRecord, direct: RequestRecord) -> None:
    """The same steps; but where a server's loop was late, an event joins several."""
    found, expected = _steps(served), _steps(direct)
    if served.steps_are_exact:
        assert found == expected, served.request_id
        return
    ends = itertools.accumulate(size for size, *_ in expected)
    assert set(itertools.accumulate(size for size, *_ in found)) <= set(ends), served.request_id


def _steps(record: RequestRecord) -> list[tuple[int, int | None]]:
    """What each step emitted and accepted. vLLM in process tells what it proposed in the counters alone."""
    return [(step.num_tokens, step.num_accepted) for step in record.steps]


def assert_a_killed_engine_ends_its_cell_alone(
    folder: Path,
    *arguments: str,
    process_name: str,
    words: str,
    python: str = sys.executable,
    environment: Mapping[str, str] | None = None,
) -> None:
    """Kills the engine's own process, whose name begins so, in the first of two cells; the other starts it anew."""
    run = folder / "sweep" / "0"
    cells = ["spec=none", "load.repeats=1000,1", "sampling.max_new_tokens=16", "hydra.sweep.dir=sweep"]
    process = subprocess.Popen(
        [python, str(ROOT / "run.py"), "-m", *arguments, *cells],
        cwd=folder,
        env=environment_of(environment, FORKED),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )
    try:
        deadline = time.monotonic() + 300
        while not (run / "requests.jsonl").is_file() or (run / "requests.jsonl").read_text().count("\n") < 5:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        (victim,) = [pid for pid, name in processes_below(process.pid).items() if name.startswith(process_name)]
        os.kill(victim, signal.SIGKILL)
        _, errors = process.communicate(timeout=300)
    finally:
        process.kill()
    assert process.returncode == 1
    assert words in error_line(errors)
    manifest, summary = (json.loads((run / name).read_text()) for name in ("manifest.json", "summary.json"))
    assert (manifest["status"], summary["partial"]) == ("failed", True)
    assert summary["requests"]["finished"] >= 4
    after = RunDirectory.open(folder / "sweep" / "1").manifest()
    assert (after.status, after.engine.reused) == ("finished", False)


def error_line(errors: str) -> str:
    """Returns the one line that says what went wrong."""
    (line,) = error_lines(errors)
    return line


def error_lines(errors: str) -> list[str]:
    return [line for line in errors.splitlines() if line.startswith("error: ")]


def processes_below(pid: int) -> dict[int, str]:
    """Returns the names of a process's descendants and its own, by their ids."""
    stats = [path.read_text() for path in Path("/proc").glob("[0-9]*/stat")]
    parents = {int(stat.split()[0]): int(stat.rpartition(")")[2].split()[1]) for stat in stats}
    names = {int(stat.split()[0]): stat[stat.index("(") + 1 : stat.rindex(")")] for stat in stats}
    below = {pid}
    while more := {child for child, parent in parents.items() if parent in below} - below:
        below |= more
    return {child: names[child] for child in below}
