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

from specdec_bench import datasets
from specdec_bench.archive import RunDirectory, provenance
from specdec_bench.archive.redact import redact, redact_overrides, redact_text, secret_values
from specdec_bench.checkpoints import chat
from specdec_bench.checkpoints.checks import check_checkpoints
from specdec_bench.checkpoints.prompter import first_request
from specdec_bench.config.compose import to_tree
from specdec_bench.config.identity import engine_key
from specdec_bench.config.schema import ExperimentConfig
from specdec_bench.engines.base import check_support
from specdec_bench.errors import EngineError, RunInterrupted, SpecDecBenchError
from specdec_bench.records import SCHEMA_VERSION, Manifest, Prompt, RunStatus
from specdec_bench.runner import held_log
from specdec_bench.runner.identify import Identity, identify
from specdec_bench.runner.messages import Done, Progress, RunCell, Started
from specdec_bench.runner.process import StopSignals, discard_process, process_for
from specdec_bench.unused import describe

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
    expected_checkpoints: dict[str, Any] | None = None
    origin: dict[str, Any] = field(default_factory=dict)
    """How the prompts came out of their source, as `datasets.Selection` says."""
    held_log: Sequence[logging.LogRecord] = ()
    """What was logged before there was a log."""

    @functools.cached_property
    def identity(self) -> Identity:
        """What tells it from other cells.

        Raises:
            ArchiveError: a checkpoint's files cannot be read.
        """
        return identify(self.config, self.prompts)


def check(config: ExperimentConfig) -> None:
    """Refuses an experiment that cannot be run, as far as can be told before anything loads.

    Raises:
        ConfigError: engine and method do not go together, or a checkpoint is missing or does not fit.
    """
    check_support(config)
    check_checkpoints(config)


def load_prompts(config: ExperimentConfig) -> datasets.Selection:
    """Returns the prompts of an experiment, and how they came out of their source.

    Raises:
        DatasetError: they cannot be read.
    """
    return datasets.load(config.dataset, config.seed, _input_length(config))


def _input_length(config: ExperimentConfig) -> Callable[[Prompt], int] | None:
    """Returns what measures a prompt's first request, where the dataset is selected by it; else None.

    Raises:
        ConfigError: the tokenizer cannot be loaded.
    """
    if config.dataset.min_input_tokens is None and config.dataset.max_input_tokens is None:
        return None
    prompter = chat.create(config)  # imports transformers: seconds that no other experiment spends here
    return lambda prompt: len(first_request(prompter, prompt))


def run_cell(cell: Cell, run_dir: Path, on_progress: Callable[[Progress], None]) -> RunDirectory:
    """Runs a cell into `run_dir` and returns the finished run directory, summarized.

    However it ends, the manifest says so, the requests that finished are kept, and they are summarized.

    Raises:
        RunInterrupted: the user stopped it.
        SpecDecBenchError: it failed.
    """
    tree, secrets = redact(to_tree(cell.config)), secret_values(to_tree(cell.config))
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
        dataset={
            "name": cell.config.dataset.name,
            "sha256": cell.identity.prompts_sha256,
            "num_prompts": len(cell.prompts),
            "num_turns": sum(len(prompt.turns) for prompt in cell.prompts),
            "categories": dict(sorted(Counter(prompt.category for prompt in cell.prompts).items())),
            **cell.origin,
        },
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
        manifest = msgspec.structs.replace(
            manifest,
            environment=started.environment,
            environment_id=provenance.environment_id(started.environment),
            checkpoints=started.checkpoints,
            engine=redact(msgspec.to_builtins(description), secrets)
            | {"start_s": started.engine_start_s, "reused": started.engine_reused},
            clock=started.clock,
            dataset=manifest.dataset | {"dropped": started.dropped},
            synthetic=description.synthetic,
        )
        run.write_manifest(manifest)
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
            error=error and redact_text(error, secrets),
            finished_utc=provenance.utc_now(),
            **changes,
        )
        # The summary first: a run that says it is finished has one.
        run.write_summary(encoded_summary(samples_of(run), manifest))
        run.write_manifest(manifest)

    measured = RunCell(
        config=cell.config, prompts=cell.prompts, run_dir=run.path, expected_checkpoints=cell.expected_checkpoints
    )
    with StopSignals() as stops:
        try:
            done = process_for(engine_key(cell.config)).run(measured, run.log_path, on_started, on_progress, stops)
        except KeyboardInterrupt:
            discard_process()
            end("interrupted", "stopped by the user")
            raise RunInterrupted(f"interrupted; what was measured is in {run.path}") from None
        except SpecDecBenchError as error:
            discard_process()
            end("failed", str(error))
            raise
        counted: dict[str, Any] = {"engine_totals": done.engine_totals, "client_lateness": done.client_lateness}
        if done.interrupted:
            end("interrupted", "stopped by the user", **counted)
            raise RunInterrupted(f"interrupted; what was measured is in {run.path}")
        if done.num_finished == 0:
            failure = _why_none_finished(done)
            end("failed", failure, **counted)
            raise EngineError(failure)
        end("finished", **counted)
    return run


def _log_dataset(dataset: dict[str, Any]) -> None:
    """Says in the log what the prompts were made of, and what of it is not used."""
    name, unused = dataset["name"], dataset.get("unused", {})
    if "num_rows" in dataset:
        logger.info(
            "dataset=%s: %d rows make %d prompts, of which %d are selected; dataset.num_turns cuts %d turns of them",
            *(name, dataset["num_rows"], dataset["num_usable"], dataset["num_prompts"], dataset["num_turns_cut"]),
        )
    for line in describe(unused, ["rows", "parts", "files"]):
        logger.warning("dataset=%s: %s; all are in manifest.json", name, line)
    for line in describe(unused, ["fields"]):
        logger.info("dataset=%s: %s; all are in manifest.json", name, line)


def mark_interrupted(run: RunDirectory, error: str) -> None:
    """Says of a run, whose process is gone, that it was cut off, and summarizes what it measured until then.

    Raises:
        ArchiveError: its folder cannot be read or written.
    """
    manifest = msgspec.structs.replace(
        run.manifest(), status="interrupted", error=error, finished_utc=provenance.utc_now()
    )
    run.write_summary(encoded_summary(samples_of(run), manifest))
    run.write_manifest(manifest)


def samples_of(run: RunDirectory) -> "Samples":
    """Returns what figures and plots are computed from, read in one pass."""
    from specdec_bench.metrics.summary import Samples  # numpy: not for a refused configuration

    return Samples(run.requests(), run.manifest())


def encoded_summary(samples: "Samples", manifest: Manifest) -> bytes:
    """Returns summary.json's bytes: a function of requests.jsonl and the manifest alone."""
    from specdec_bench.metrics.summary import encode, summarize

    return encode(summarize(samples, manifest))


def _why_none_finished(done: Done) -> str:
    if done.num_failed == 0:
        fix = "raise model.max_seq_len, or lower sampling.max_new_tokens"
        return f"all {done.num_skipped} requests were skipped, the first because: {done.first_error}; {fix}"
    skipped = f" and {done.num_skipped} were skipped" if done.num_skipped else ""
    return f"no request finished: {done.num_failed} failed{skipped}, the first because: {done.first_error}"
