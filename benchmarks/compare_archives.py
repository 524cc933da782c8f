"""How long `compare` takes: `python benchmarks/compare_archives.py`.

Writes two archives of 10,000 requests each, compares them through the command line, and prints one JSON object with the
seconds of each repetition.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from tests.helpers.archive_samples import make_prompt  # noqa: E402
from tests.helpers.made_archives import reply, write_run  # noqa: E402


def main() -> None:
    """Prints the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000, help="of each archive, over all of its runs")
    parser.add_argument("--runs", type=int, default=1, help="of each archive, which share its requests")
    parser.add_argument("--steps", type=int, default=30, help="of each request")
    parser.add_argument("--repetitions", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for side in ("a", "b"):
            write_archive(folder / side, options.requests // options.runs, options.runs, options.steps)
        seconds = []
        for _ in range(options.repetitions):
            began = time.perf_counter()
            command = [sys.executable, str(ROOT / "run.py"), "compare", str(folder / "a"), str(folder / "b")]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            seconds.append(time.perf_counter() - began)
    print(json.dumps({"requests_of_each": options.requests, "runs_of_each": options.runs, "compare_s": seconds}))


def write_archive(folder: Path, num_requests: int, num_runs: int, num_steps: int) -> None:
    """Writes the runs of one cell, which accept 0 to 3 drafts a step."""
    prompts = [make_prompt(number) for number in range(num_requests)]
    records = [
        reply(prompt, [(step * step + number) % 4 for step in range(num_steps)])
        for number, prompt in enumerate(prompts)
    ]
    for replicate in range(num_runs):
        write_run(folder / str(replicate), records, prompts, replicate=replicate)


if __name__ == "__main__":
    main()
