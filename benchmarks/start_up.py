"""How long the command line takes to say something, beside `import hydra` alone: medians of alternating runs.

    python benchmarks/start_up.py [RUNS]

Modules are compiled beforehand, into a folder of their own, as they are wherever something was run once.
"""

import os
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


def measure(arguments: list[str], environment: dict[str, str]) -> float:
    """Returns the seconds from start to exit."""
    began = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    return time.perf_counter() - began


def main() -> None:
    """Prints the medians and their ratios to the first."""
    num_runs = int(sys.argv[1]) if len(sys.argv) > 1 else 5
    with tempfile.TemporaryDirectory() as compiled:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = compiled
        for arguments in COMMANDS.values():
            measure(arguments, environment)
        seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
        for _ in range(num_runs):
            for name, arguments in COMMANDS.items():
                seconds[name].append(measure(arguments, environment))
    medians = {name: statistics.median(times) for name, times in seconds.items()}
    least = medians[next(iter(COMMANDS))]
    for name, median in medians.items():
        print(f"{name:34} {median:6.3f} s  x {median / least:.2f}")


if __name__ == "__main__":
    main()
