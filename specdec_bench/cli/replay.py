"""`replay`: runs an archived experiment again and compares."""

import datetime
import json
import sys
from pathlib import Path

from specdec_bench.archive import files
from specdec_bench.archive.names import LOG
from specdec_bench.cli.arguments import Parser, open_run
from specdec_bench.report.console import console
from specdec_bench.report.streams import print_error
from specdec_bench.runner import held_log
from specdec_bench.runner import replay as replaying
from specdec_bench.sweep.claims import claim
from specdec_bench.sweep.landing import check_unused
from specdec_bench.sweep.run_cell import run_and_show


def replay(arguments: list[str]) -> int:
    """Runs an archived experiment again and says whether the same came out.

    Returns:
        0, or 1 where outputs or acceptance had to be identical and were not.
    """
    parser = Parser(prog="specdec-bench replay", description=replay.__doc__)
    parser.add_argument("run_dir", help="the archived run directory")
    parser.add_argument("--output", help="where the replay's own run directory goes (default: outputs/DATE/TIME)")
    options = parser.parse_args(arguments)
    original = open_run(options.run_dir)
    cell = replaying.archived_cell(original, sys.argv)
    output, is_new = Path(options.output or _default_output()), options.output is None
    if not is_new:
        check_unused(output, "--output")
    with claim(output, "--output", is_new=is_new) as claimed, held_log.logging_to(claimed / LOG):
        run = run_and_show(cell, claimed)
    manifest = original.manifest()
    is_whole = manifest.status == "finished"
    result = replaying.compare(original.requests(), run.requests(), is_whole=is_whole)
    result["must_be_identical"] = replaying.must_be_identical(manifest)
    result["environment_changes"] = replaying.environment_changes(manifest, run.manifest())
    files.write_atomically(run.path / "replay.json", [json.dumps(result, indent=2).encode() + b"\n"])
    screen = console()
    screen.print(
        f"replay of {manifest.run_id}: {result['num_identical_outputs']} of {result['num_compared']} outputs and "
        f"{result['num_identical_acceptance']} of {result['num_compared']} acceptances identical"
        + (f"; {result['num_only_in_original']} requests were not repeated" if result["num_only_in_original"] else "")
        + ("" if is_whole else f"; {result['num_only_in_replay']} more are not in it (its status: {manifest.status})"),
        markup=False,
        soft_wrap=True,
    )
    for name, (then, now) in result["environment_changes"].items():
        screen.print(f"  {name}: then {then}, now {now}", markup=False, soft_wrap=True)
    if result["identical"] or not result["must_be_identical"]:
        return 0
    print_error(f"greedy decoding on this engine must repeat exactly; see {run.path / 'replay.json'}")
    return 1


def _default_output() -> Path:
    now = datetime.datetime.now()
    return Path("outputs") / now.strftime("%Y-%m-%d") / now.strftime("%H-%M-%S")
