"""`run`: composes an experiment or a sweep, refuses what cannot run, and runs the rest."""

import contextlib
import gc
import io
import os
import sys
from pathlib import Path

import hydra
from hydra.types import RunMode
from omegaconf import OmegaConf

from specdec_bench import __version__
from specdec_bench.archive import redact
from specdec_bench.cli import composing, flags
from specdec_bench.cli.composing import MULTIRUN_MODE
from specdec_bench.cli.help import help_text
from specdec_bench.config import compose, launcher_plugins, own_files, plugins
from specdec_bench.config.compose import CONF, CONFIG
from specdec_bench.config.schema.slo import Capacity
from specdec_bench.errors import ConfigError
from specdec_bench.sweep.settings import check_settings


def compose_and_run(arguments: list[str]) -> None:
    """Runs an experiment or a sweep.

    hydra.main would compose it twice, first only to learn hydra.mode (a fifth of a second), and would write into
    the run directory before the experiment can be refused. So it serves only the flags that run nothing.
    """
    if "--version" in arguments:
        sys.stdout.write(f"specdec-bench {__version__}\n")
        return
    sys.argv = [sys.argv[0], *arguments]
    # Hydra then raises its errors instead of printing them over several lines.
    os.environ["HYDRA_FULL_ERROR"] = "1"
    asked = flags.parse(arguments)
    if asked.shows_help:
        own = [Path(asked.config_dir)] if asked.config_dir else []
        sys.stdout.write(help_text([*plugins.FOLDERS.values(), *own]))
        return
    if asked.runs_nothing:
        own_files.register()
        compose.register_schemas()
        shown = io.StringIO()
        try:
            with contextlib.redirect_stdout(shown):
                hydra.main(version_base="1.3", config_path=str(CONF), config_name=CONFIG)(lambda _: None)()
        finally:
            sys.stdout.write(redact.redact_yaml_text(shown.getvalue()))
        return
    overrides = asked.overrides
    if asked.is_sweep:
        overrides = [*overrides, MULTIRUN_MODE]
    if asked.resume is not None:
        overrides = composing.resume_overrides(overrides, asked.resume)
    with composing.composed_tree(overrides) as (app, composed):
        gc.enable()
        app.compose_config = lambda **_: composed  # type: ignore[method-assign]
        check_settings(composed, is_sweep=composed.hydra.mode == RunMode.MULTIRUN)
        # Imported only now, so that refusing what cannot be composed is quick.
        from specdec_bench.sweep.objective import check_objective

        check_objective(composed.objective)
        if OmegaConf.to_object(composed.capacity) != Capacity():
            raise ConfigError("capacity: belongs to a search; pass the same overrides to specdec-bench capacity")
        if composed.hydra.mode == RunMode.MULTIRUN:
            launcher_plugins.import_put_off()
            from specdec_bench.sweep.grid import run_sweep

            run_sweep(app, composed, overrides, is_resumed=asked.resume is not None, is_dry_run=asked.is_dry_run)
        else:
            composing.refuse_fields_of_a_sweep(composed, "pass -m")
            from specdec_bench.sweep.single import run_single

            run_single(app, composed, overrides, is_dry_run=asked.is_dry_run)
