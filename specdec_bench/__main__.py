"""The program's entry: `python -m specdec_bench`, `specdec-bench`, `python run.py`."""

import atexit
import sys

from specdec_bench.runner import signals


def main(arguments: list[str] | None = None) -> None:
    """Runs what the arguments (default: the process's) say, and ends with its exit status; see `cli.main`."""
    signals.raise_on_stop()  # before anything that takes long to import
    atexit.register(signals.block_stop)  # the first to be registered is the last to run
    try:
        from specdec_bench.cli.main import main as run_command

        run_command(arguments)
    except BaseException as error:
        # A library that is interrupted while it is imported may raise an error of its own.
        if isinstance(error, SystemExit) or not (isinstance(error, KeyboardInterrupt) or signals.times_stopped()):
            raise
        sys.stderr.write("error: interrupted\n")
        raise SystemExit(signals.EXIT_STATUS) from None
    finally:
        signals.ignore_stop()


if __name__ == "__main__":
    main()
