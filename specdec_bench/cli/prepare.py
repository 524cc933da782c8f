"""`prepare`: writes a dataset, checked and pinned, into one file."""

from pathlib import Path

from specdec_bench.cli.arguments import Parser
from specdec_bench.records.unused import describe
from specdec_bench.report.console import console
from specdec_bench.report.text import literal


def prepare(arguments: list[str]) -> int:
    """Writes a dataset, checked and pinned, into one parquet file; dataset=prepared dataset.path=FILE reads it."""
    from specdec_bench.datasets import prepare as preparing

    parser = Parser(prog="specdec-bench prepare", description=prepare.__doc__)
    parser.add_argument("dataset", help="as in dataset=NAME: spec_bench, speed_bench, sharegpt, hf, ...")
    parser.add_argument("overrides", nargs="*", metavar="FIELD=VALUE", help="as for a run: dataset.path=FILE")
    parser.add_argument("--output", type=Path, help="the parquet file (default: DATASET.parquet)")
    parser.add_argument("--licence", help="of a dataset whose licence the project does not know; kept in the file")
    parser.add_argument("--accept-license", action="store_true", help="where a licence has to be accepted")
    options = parser.parse_intermixed_args(arguments)
    config = preparing.dataset_config(options.dataset, options.overrides)
    output = options.output or Path(f"{options.dataset}.parquet")
    with console().status(f"preparing {options.dataset}") as status:
        made, changed = preparing.prepare(
            config,
            output,
            options.licence,
            options.accept_license,
            lambda count: status.update(f"{count:,} prompts") if count % 100 == 0 else None,
            lambda name: status.update(f"loading {name}"),
        )
    state = "written" if changed else "unchanged"
    lines = [
        f"{output}: {state}; {made['num_prompts']:,} prompts, {made['num_turns']:,} turns",
        f"  source    {made['source']}" + (f" at {made['revision']}" if made["revision"] else ", no known revision"),
        f"  licence   {made['licence'] or 'not stated'}",
        f"  sha256    {made['sha256']}",
        *(f"  made of   {name} at {version}" for name, version in made.get("made_of", {}).items()),
        *(f"  {count:7,}  {category}" for category, count in made["categories"].items()),
        *(f"  {line}" for line in describe(made["unused"])),
    ]
    for line in lines:
        console().print(literal(line), soft_wrap=True)
    return 0
