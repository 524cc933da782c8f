"""What a large run costs to summarize: `python benchmarks/large_run.py`.

Records 100,000 requests of the synthetic engine through the command line, then times `summarize` on the run
directory and takes its peak memory; prints one JSON object.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Prints the measurements."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=2000, help="of the demo's 50 requests")
    parser.add_argument("--max-new-tokens", type=int, default=64)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run_dir = Path(folder) / "run"
        began = time.perf_counter()
        subprocess.run(
            [
                sys.executable,
                str(ROOT / "run.py"),
                "engine=synthetic",
                "engine.ttft_ms=0",
                "engine.step_time_ms=0",
                "load.concurrency=64",
                f"load.repeats={options.repeats}",
                f"sampling.max_new_tokens={options.max_new_tokens}",
                f"hydra.run.dir={run_dir}",
            ],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        run_s = time.perf_counter() - began
        num_requests = json.loads((run_dir / "summary.json").read_bytes())["requests"]["finished"]
        size = (run_dir / "requests.jsonl").stat().st_size
        began = time.perf_counter()
        summarize = subprocess.Popen(
            [sys.executable, str(ROOT / "run.py"), "summarize", str(run_dir)], stdout=subprocess.DEVNULL
        )
        _, status, usage = os.wait4(summarize.pid, 0)
        assert status == 0, "summarize failed"
        print(
            json.dumps(
                {
                    "requests": num_requests,
                    "requests_jsonl_mib": size / 2**20,
                    "run_s": run_s,
                    "summarize_s": time.perf_counter() - began,
                    "summarize_peak_mib": _peak_mib(usage),
                },
                indent=2,
            )
        )


def _peak_mib(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    main()
