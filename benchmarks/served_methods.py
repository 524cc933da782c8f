"""Does a method do behind a server what it does in process? `python benchmarks/served_methods.py FOLDER --engine vllm`.

Runs plain decoding and each method in process and behind a server that the run starts, on the bundled models: the same
prompts, greedy, one request in flight. Then it compares them request by request and writes served.csv into FOLDER. Runs
that are in FOLDER already are taken as they are. `--proposer module.Class` adds `custom_class` with a class of the
working folder. All further arguments are the runs': `engine.enforce_eager=true`.

A step is what it emitted and how many drafts it accepted. The last step of a request may be cut by the end of the
reply, and in process SGLang does not shorten its count there; it is left out.
"""

import argparse
import csv
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from msgspec import to_builtins

from specdec_bench.archive import RunDirectory
from specdec_bench.records.manifest import label_of_load
from specdec_bench.records.options import integer_option, text_option
from specdec_bench.records.request import RequestRecord

ROOT = Path(__file__).resolve().parents[1]
PARALLEL = {"pard": "draft_model", "peagle": "eagle3"}
"""Bundled drafters of `spec.parallel_drafting=true`."""
CUSTOM = "custom_class"
METHODS = {
    "vllm": ("ngram", "draft_model", "eagle3", "eagle", "medusa", "dflash", "mtp", "suffix", CUSTOM, *PARALLEL),
    "sglang": ("ngram", "draft_model", "eagle3", "eagle", "mtp"),
}
Requests = dict[str, RequestRecord]


def main() -> None:
    """Runs what is missing, compares, and writes the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--engine", choices=METHODS, required=True, help="the engine in process and in the server")
    parser.add_argument("--methods", help="with commas between them; default: all that the bundled drafters are for")
    parser.add_argument("--proposer", help="module.Class of custom_class")
    options, overrides = parser.parse_known_args()
    runnable = [method for method in METHODS[options.engine] if method != CUSTOM or options.proposer]
    methods = options.methods.split(",") if options.methods else runnable
    rows = list(compare(options.folder, options.engine, methods, overrides, options.proposer))
    with (options.folder / "served.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    print((options.folder / "served.csv").read_text(encoding="utf-8"), end="")


def compare(
    folder: Path, engine: str, methods: Sequence[str], overrides: Sequence[str] = (), proposer: str | None = None
) -> Iterator[dict[str, str | int | float | None]]:
    """Yields a row for each method, plain decoding first."""
    plain = requests(run(folder, engine, "none", overrides))
    for method in ("none", *methods):
        own = [*overrides, *([f"spec.proposer={proposer}"] if method == CUSTOM else [])]
        direct = requests(run(folder, engine, method, own))
        served_run = run(folder, f"{engine}_server", method, own)
        served, manifest, summary = requests(served_run), served_run.manifest(), served_run.summary()
        compared = plain.keys() & direct.keys() & served.keys()
        check = summary.acceptance.cross_check
        apart = None if check is None else check.difference
        yield {
            "engine": f"{engine}_server",
            "engine_version": str(to_builtins(manifest.engine.resolved).get(engine)),
            "dtype": text_option(manifest.config, "model", "dtype"),
            "spec": PARALLEL.get(method, method),
            "drafter": method if method in PARALLEL else None,
            "draft_length": integer_option(manifest.config, "spec", "draft_length"),
            "concurrency": label_of_load(manifest).max_in_flight,
            "num_finished": summary.requests.finished,
            "num_failed": summary.requests.failed,
            "acceptance_source": summary.acceptance.source,
            "acceptance_length": summary.acceptance.pooled.acceptance_length,
            "num_compared": len(compared),
            "num_as_plain_decoding": sum(same_output(served[key], plain[key]) for key in compared),
            "num_as_in_process": sum(same_output(served[key], direct[key]) for key in compared),
            "num_same_steps": sum(steps(served[key]) == steps(direct[key]) for key in compared),
            "totals_verify_steps_apart": None if apart is None else apart.verify_steps,
            "totals_accepted_apart": None if apart is None else apart.accepted,
        }


def run(folder: Path, engine: str, method: str, overrides: Sequence[str]) -> RunDirectory:
    """Returns the finished run, which is made if it is not there.

    Raises:
        CalledProcessError: it failed.
    """
    place = folder / engine / method
    if not (place / "summary.json").is_file():
        spec = [f"spec={PARALLEL.get(method, method)}", *([] if method == "none" else ["spec.draft_length=3"])]
        spec += ["spec.parallel_drafting=true"] if method in PARALLEL else []
        if method == "mtp":
            target = folder / "mimo"
            subprocess.run([sys.executable, str(ROOT / "training" / "mtp.py"), str(target)], check=True)
            spec += ["model=custom", f"model.path={target}", "model.dtype=float32"]
        command = [sys.executable, str(ROOT / "run.py"), f"engine={engine}", *spec, *overrides]
        subprocess.run([*command, f"hydra.run.dir={place}"], check=True)
    return RunDirectory.open(place)


def requests(run: RunDirectory) -> Requests:
    """Returns the measured requests by their ids."""
    return {record.request_id: record for record in run.requests() if record.phase == "measure"}


def same_output(one: RequestRecord, other: RequestRecord) -> bool:
    """Whether both have the same prompt and reply."""
    return (one.prompt_token_ids, one.output_token_ids) == (other.prompt_token_ids, other.output_token_ids)


def steps(record: RequestRecord) -> list[tuple[int, int | None]]:
    """Returns what each step but the last emitted and accepted."""
    return [(step.num_tokens, step.num_accepted) for step in record.steps[:-1]]


if __name__ == "__main__":
    main()
