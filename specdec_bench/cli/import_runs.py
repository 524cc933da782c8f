"""`import`: makes a run directory out of what another load generator wrote."""

import datetime
import importlib
import sys
from pathlib import Path

from specdec_bench.archive import codec, files
from specdec_bench.cli.arguments import Parser, open_run
from specdec_bench.config.schema.spec import OPTIONS
from specdec_bench.errors import ConfigError
from specdec_bench.records.labels import method_of
from specdec_bench.records.prompts_hash import prompts_fingerprint
from specdec_bench.report.console import console
from specdec_bench.report.show_run import show_run
from specdec_bench.report.text import literal

TOOLS = {"aiperf": "aiperf", "vllm-bench": "vllm_bench"}
"""By the name on the command line: the module that reads what the tool wrote."""
UNKNOWN = "unknown"
SOMETIMES_DRAFT = ("ngram", "ngram_gpu", "suffix", "custom_class", UNKNOWN)
"""Methods with decode steps that have no draft, so that decode steps do not follow from verify steps."""
CLAIMED = "claimed.json"


def import_runs(arguments: list[str]) -> int:
    """Makes a run directory out of AIPerf's artifact folder, or of vllm bench serve's result file."""
    parser = Parser(prog="specdec-bench import", description=import_runs.__doc__)
    parser.add_argument("tool", choices=list(TOOLS), help="which wrote it")
    parser.add_argument("path", type=Path, help="AIPerf's folder, or vllm bench serve's JSON (with --save-detailed)")
    parser.add_argument("--method", default=UNKNOWN, help="that the server ran: none, draft_model, ngram, ...")
    parser.add_argument("--output", type=Path, help="where the run directory goes (default: outputs/DATE/TIME)")
    parser.add_argument("--baseline", help="the run directory of plain decoding to compare with")
    parser.add_argument(
        "--assume-matched", action="store_true", help="claims that both runs differ in the method alone"
    )
    options = parser.parse_args(arguments)
    methods = (*OPTIONS, UNKNOWN)
    if options.method not in methods:
        raise ConfigError(f"--method={options.method}: no such method; there are {', '.join(methods)}")
    if options.baseline is not None and not options.assume_matched:
        raise ConfigError(
            f"--baseline={options.baseline}: no file tells whether the runs match; pass --assume-matched to claim it"
        )
    if options.assume_matched and options.baseline is None:
        raise ConfigError("--assume-matched: needs a baseline; pass --baseline=RUN_DIR")
    baseline = None if options.baseline is None else open_run(options.baseline)
    if baseline is not None and method_of(baseline.manifest().config)[0] != "none":
        raise ConfigError(
            f"--baseline={options.baseline}: is not a run of plain decoding; import it with --method=none"
        )
    reader = importlib.import_module(f"specdec_bench.archive.imports.{TOOLS[options.tool]}")
    imported = reader.read(
        options.path, is_plain=options.method == "none", drafts_always=options.method not in SOMETIMES_DRAFT
    )
    if baseline is not None and baseline.manifest().dataset.sha256 != prompts_fingerprint(imported.prompts):
        raise ConfigError(f"--baseline={options.baseline}: had other prompts; runs of different prompts do not match")
    from specdec_bench.runner.import_run import import_run

    output = options.output or Path("outputs") / datetime.datetime.now().strftime("%Y-%m-%d/%H-%M-%S")
    run = import_run(imported, output, options.method, ["specdec-bench", *sys.argv[1:]])
    show_run(run)
    if baseline is not None:
        from specdec_bench.compare.claimed import compare_claimed

        claimed = compare_claimed(str(baseline.path), baseline.requests(), run.requests())
        files.write_atomically(run.path / CLAIMED, [codec.encode_document(claimed)])
        for name, interval in (("TPOT", claimed.speedup_tpot), ("end to end", claimed.speedup_e2e)):
            value = "–" if interval.value is None else f"{interval.value:.3f}"
            ends = "" if interval.low is None else f" (95% interval {interval.low:.3f} to {interval.high:.3f})"
            line = f"CLAIMED speedup ({name}) over {baseline.path}: {value}{ends}, {claimed.num_pairs} requests paired"
            console().print(literal(line), markup=False, soft_wrap=True)
    return 0
