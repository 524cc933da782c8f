"""How long the command line takes to start, compared with `import hydra` alone: medians of alternating runs.

    python benchmarks/start_up.py [RUNS]

Prints wall time and processor time; a busy machine distorts the latter less. Modules are compiled beforehand into a
folder of their own, as they are after any first run.
"""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = {
    'python -c "import hydra"': ["-c", "import hydra"],
    "python run.py --help": ["run.py", "--help"],
    "python run.py --version": ["run.py", "--version"],
    "a refusal (spec=nope)": ["run.py", "spec=nope"],
    "a refusal (spec.draft_length=0)": ["run.py", "spec.draft_length=0"],
}


def processor_s() -> float:
    """Returns the seconds that the processor spent on processes that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def measure(arguments: list[str], environment: dict[str, str]) -> tuple[float, float]:
    """Returns the seconds from start to exit, and the processor's."""
    began, processor_began = time.perf_counter(), processor_s()
    subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - began, processor_s() - processor_began


def main() -> None:
    """Prints the medians and their ratios to the first."""
    num_runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as compiled:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = compiled
        for arguments in COMMANDS.values():
            measure(arguments, environment)
        seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
        for _ in range(num_runs):
            for name, arguments in COMMANDS.items():
                seconds[name].append(measure(arguments, environment))
    medians = {
        name: [statistics.median(times) for times in zip(*pairs, strict=True)] for name, pairs in seconds.items()
    }
    least, least_processor = medians[next(iter(COMMANDS))]
    for name, (median, processor) in medians.items():
        ratios = f"x {median / least:.2f}  processor {processor:6.3f} s  x {processor / least_processor:.2f}"
        print(f"{name:34} {median:6.3f} s  {ratios}")


if __name__ == "__main__":
    main()
