"""One cell, from its configuration to a finished run directory. Runs in the parent."""

import functools
import logging
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import yaml
from msgspec import UNSET

from specdec_bench import datasets
from specdec_bench.archive import RunDirectory, provenance
from specdec_bench.archive.redact import known, redact, redact_overrides, redact_text
from specdec_bench.checkpoints import chat
from specdec_bench.checkpoints.checks import check_checkpoints
from specdec_bench.checkpoints.prompter import first_request
from specdec_bench.config.compose import to_tree
from specdec_bench.config.identity import engine_key
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.config.support import check_support
from specdec_bench.errors import ArchiveError, ConfigError, EngineError, PluginError, RunInterrupted, SpecDecBenchError
from specdec_bench.load import base as loads
from specdec_bench.records.checkpoint import Checkpoint
from specdec_bench.records.manifest import ArchivedDataset, ArchivedEngine, Manifest
from specdec_bench.records.request import SCHEMA_VERSION, Prompt, RunStatus
from specdec_bench.records.unused import describe
from specdec_bench.runner import held_log
from specdec_bench.runner.identify import Identity, identify
from specdec_bench.runner.messages import Counts, Progress, RunCell, Started
from specdec_bench.runner.process import discard_process, process_for
from specdec_bench.runner.signals import StopSignals

if TYPE_CHECKING:
    from specdec_bench.metrics.summary import Samples

logger = logging.getLogger(__name__)


@dataclass(kw_only=True)
class Cell:
    """A checked experiment with its prompts: all that is needed before an engine starts."""

    config: ExperimentConfig
    prompts: list[Prompt]
    command: Sequence[str] = ()
    overrides: Sequence[str] = ()
    replay_of: str | None = None
    expected_checkpoints: dict[str, Checkpoint] | None = None
    origin: dict[str, Any] = field(default_factory=dict)
    """How the prompts were made from their source, as in `datasets.Selection`."""
    held_log: Sequence[logging.LogRecord] = ()
    """Records that were logged before the run's log was open."""

    @functools.cached_property
    def identity(self) -> Identity:
        """The ids that distinguish it from other cells.

        Raises:
            ArchiveError: a checkpoint's files cannot be read.
        """
        return identify(self.config, self.prompts)


def check(config: ExperimentConfig) -> None:
    """Refuses an experiment that cannot be run, as far as this is known before anything loads.

    Raises:
        ConfigError: engine and method do not go together, or a checkpoint is missing or does not fit.
    """
    check_support(config)
    load = config.load
    if load.decides_number and loads.create(load, config.seed, 1).num_conversations == 0:
        raise ConfigError(
            f"load.duration_s={getattr(load, 'duration_s', None)}: no conversation arrives in it; raise it"
        )
    if load.num_clients != 1 and not hasattr(loads.create(load, config.seed, 1), "part"):
        raise ConfigError(f"load.clients={load.clients}: load={load.name} cannot be split over clients; leave it at 1")
    check_checkpoints(config)


def load_prompts(config: ExperimentConfig) -> datasets.Selection:
    """Returns the prompts of an experiment, and how they were made from their source.

    Raises:
        DatasetError: they cannot be read.
    """
    input_length = _input_length(config)
    try:
        return datasets.load(config.dataset, config.seed, input_length)
    except OSError as error:
        raise datasets.unreadable(config.dataset, error) from error


def _input_length(config: ExperimentConfig) -> Callable[[Prompt], int] | None:
    """Returns a function that measures a prompt's first request; None if the dataset is not selected by length.

    Raises:
        ConfigError: the tokenizer cannot be loaded.
    """
    if config.dataset.min_input_tokens is None and config.dataset.max_input_tokens is None:
        return None
    prompter = chat.create(config)  # imports transformers, which takes seconds: only done when needed
    return lambda prompt: len(first_request(prompter, prompt))


def run_cell(
    cell: Cell,
    run_dir: Path,
    on_progress: Callable[[Progress], None],
    on_samples: "Callable[[Samples], None]" = lambda _: None,
) -> RunDirectory:
    """Runs a cell into `run_dir` and returns the finished run directory, summarized.

    However the run ends, the manifest records it, and the finished requests are kept and summarized.

    Args:
        cell: checked.
        run_dir: does not exist, or is empty.
        on_progress: receives the progress, a few times a second.
        on_samples: receives the data that the summary is computed from, so that the requests need not be read again.

    Raises:
        RunInterrupted: the user stopped it.
        SpecDecBenchError: it failed.
    """
    with StopSignals() as stops:
        if stops.count:
            raise RunInterrupted("interrupted")
        run = _run_cell(cell, run_dir, on_progress, on_samples, stops)
    if stops.count:  # while the end was being written: the run is complete, but no other may follow
        raise _interruption(run)
    return run


def _interruption(run: RunDirectory) -> RunInterrupted:
    return RunInterrupted(f"interrupted; what was measured is in {run.path}")


def _run_cell(
    cell: Cell,
    run_dir: Path,
    on_progress: Callable[[Progress], None],
    on_samples: "Callable[[Samples], None]",
    stops: StopSignals,
) -> RunDirectory:
    tree = redact(to_tree(cell.config), refers=True)
    manifest = Manifest(
        schema_version=SCHEMA_VERSION,
        run_id=provenance.new_run_id(),
        status="started",
        created_utc=provenance.utc_now(),
        command=tuple(redact_overrides(list(cell.command))),
        overrides=tuple(redact_overrides(list(cell.overrides))),
        config=tree,
        project=provenance.project(),
        cell_id=cell.identity.cell_id,
        baseline_id=cell.identity.baseline_id,
        dataset=ArchivedDataset(
            name=cell.config.dataset.name,
            sha256=cell.identity.prompts_sha256,
            num_prompts=len(cell.prompts),
            num_turns=sum(len(prompt.turns) for prompt in cell.prompts),
            categories=dict(sorted(Counter(prompt.category for prompt in cell.prompts).items())),
            **cell.origin,
        ),
        load=cell.config.load.label,
        replay_of=cell.replay_of,
    )
    run = RunDirectory.create(
        run_dir, manifest, cell.prompts, yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    )

    held_log.write(cell.held_log)
    _log_dataset(manifest.dataset)

    def on_started(started: Started) -> None:
        nonlocal manifest
        description = started.description
        updated = msgspec.structs.replace(
            manifest,
            environment=started.environment,
            environment_id=provenance.environment_id(started.environment),
            checkpoints=started.checkpoints,
            engine=msgspec.convert(
                redact(msgspec.to_builtins(description))
                | {"start_s": started.engine_start_s, "reused": started.engine_reused},
                ArchivedEngine,
            ),
            clock=started.clock,
            num_clients=started.num_clients,
            dataset=msgspec.structs.replace(manifest.dataset, dropped=started.dropped),
            synthetic=description.synthetic,
        )
        run.write_manifest(updated)
        manifest = updated  # only after the write: on a full disk, the final manifest must fit where this did not
        if started.dropped:
            logger.warning(
                "%d of %d conversations do not fit max_seq_len=%s and are dropped: %s",
                len(started.dropped),
                len(cell.prompts),
                description.max_seq_len,
                ", ".join(f"{name} ({num_tokens} tokens)" for name, num_tokens in started.dropped.items()),
            )
        logger.info("engine %s after %.1f s", "reused" if started.engine_reused else "started", started.engine_start_s)

    def end(status: RunStatus, error: str | None = None, **changes: Any) -> None:
        nonlocal manifest
        manifest = msgspec.structs.replace(
            manifest,
            status=status,
            error=error and redact_text(error),
            finished_utc=provenance.utc_now(),
            **changes,
        )
        try:
            if status != "finished":  # space is reserved for this, but perhaps not for a summary
                run.write_manifest(manifest)
            samples = samples_of(run)
            on_samples(samples)
            run.write_summary(encoded_summary(samples, manifest))
            if status == "finished":  # a finished run always has a summary
                run.write_manifest(manifest)
        except (ArchiveError, PluginError) as unwritten:
            if error is None:
                end("failed", str(unwritten), **changes)
                raise
            logger.error("%s", unwritten)  # in addition to the reason why the run ended, which the user sees

    measured = RunCell(
        config=cell.config,
        prompts=cell.prompts,
        run_dir=run.path.absolute(),  # a process that is used again may have been started in another folder
        secrets=known(),
        expected_checkpoints=cell.expected_checkpoints,
    )
    try:
        done = process_for(engine_key(cell.config)).run(measured, run.log_path, on_started, on_progress, stops)
    except KeyboardInterrupt:
        discard_process()
        end("interrupted", "stopped by the user")
        raise _interruption(run) from None
    except SpecDecBenchError as error:
        discard_process()
        end("failed", str(error))
        raise
    counted: dict[str, Any] = {
        "engine_totals": done.engine_totals,
        "client_lateness": done.client_lateness,
        "energy": done.energy,
    }
    if done.interrupted:
        end("interrupted", "stopped by the user", **counted)
        raise _interruption(run)
    if done.counts.finished == 0:
        failure = _why_none_finished(done.counts)
        end("failed", failure, **counted)
        raise EngineError(failure)
    end("finished", **counted)
    return run


def _log_dataset(dataset: ArchivedDataset) -> None:
    """Logs what the prompts were made from, and which parts of it are unused."""
    name, unused = dataset.name, dataset.unused or {}
    if dataset.num_rows is not UNSET:
        logger.info(
            "dataset=%s: %d rows make %d prompts, of which %d are selected; dataset.num_turns cuts %d turns of them",
            *(name, dataset.num_rows, dataset.num_usable, dataset.num_prompts, dataset.num_turns_cut),
        )
    for line in describe(unused, ["rows", "parts", "files"]):
        logger.warning("dataset=%s: %s; all are in manifest.json", name, line)
    for line in describe(unused, ["fields"]):
        logger.info("dataset=%s: %s; all are in manifest.json", name, line)


def mark_interrupted(run: RunDirectory, error: str) -> None:
    """Marks a run whose process is gone as interrupted, and summarizes what it measured until then.

    Raises:
        ArchiveError: its folder cannot be read or written.
    """
    manifest = msgspec.structs.replace(
        run.manifest(), status="interrupted", error=error, finished_utc=provenance.utc_now()
    )
    run.write_summary(encoded_summary(samples_of(run), manifest))
    run.write_manifest(manifest)


def samples_of(run: RunDirectory) -> "Samples":
    """Returns the data that metrics, plots and the page are computed from, read in one pass."""
    from specdec_bench.metrics.summary import Samples  # imports numpy, which a refused configuration does not need

    return Samples(run.requests(), run.manifest(), keeps_records=True)


def encoded_summary(samples: "Samples", manifest: Manifest) -> bytes:
    """Returns summary.json's bytes, computed from requests.jsonl and the manifest alone."""
    from specdec_bench.metrics.summary import encode, summarize

    return encode(summarize(samples, manifest))


def _why_none_finished(counts: Counts) -> str:
    if counts.failed == 0:
        fix = "raise model.max_seq_len, or lower sampling.max_new_tokens"
        return f"all {counts.skipped} requests were skipped, the first because: {counts.first_error}; {fix}"
    skipped = f" and {counts.skipped} were skipped" if counts.skipped else ""
    return f"no request finished: {counts.failed} failed{skipped}, the first because: {counts.first_error}"
