"""Runs an archived experiment again from its directory alone, and compares the results."""

from collections.abc import Iterable
from typing import Any

import yaml
from msgspec import to_builtins
from omegaconf import OmegaConf

from specdec_bench import datasets
from specdec_bench.archive import RunDirectory
from specdec_bench.archive.hydra_files import learn_composed
from specdec_bench.archive.secrets import REDACTED
from specdec_bench.checkpoints.checks import check_checkpoints
from specdec_bench.config.compose import archived_experiment
from specdec_bench.config.support import check_support
from specdec_bench.errors import ArchiveInputError
from specdec_bench.records.first_difference import first_difference
from specdec_bench.records.flatten import flatten
from specdec_bench.records.manifest import Manifest
from specdec_bench.records.options import number_option
from specdec_bench.records.prompts_hash import prompts_fingerprint
from specdec_bench.records.request import RequestRecord
from specdec_bench.runner.cell import Cell

MAX_LISTED = 10
"""Differing requests that are listed one by one."""


def archived_cell(run: RunDirectory, command: list[str]) -> Cell:
    """Returns the cell of a run directory, with the prompts and the weights' fingerprints that it archived.

    Raises:
        ArchiveError: the directory does not hold all that a replay needs, or its prompts were changed.
        ConfigError: the experiment cannot be run here.
    """
    manifest = run.manifest()
    if manifest.imported is not None:
        raise ArchiveInputError(f"{run.path}: was imported from {manifest.imported.tool}; only it can run it again")
    text = run.config()
    if REDACTED in text:
        names = [key for key, value in flatten(_tree(run, text)).items() if REDACTED in str(value)]
        raise ArchiveInputError(
            f"{run.config_path}: {', '.join(names)} was a secret, which a replay needs and an archive does not keep; "
            "a run that is given it as ${oc.env:NAME} can be replayed"
        )
    tree = _tree(run, text)
    learn_composed(OmegaConf.create(tree))
    config = archived_experiment(tree)
    check_support(config)
    check_checkpoints(config)
    if not manifest.engine.has_started:
        raise ArchiveInputError(
            f"{run.path}: its engine never started ({manifest.error}); there is nothing to compare with"
        )
    prompts = run.prompts()
    if prompts_fingerprint(prompts) != manifest.dataset.sha256:
        raise ArchiveInputError(
            f"{run.prompts_path}: is not what the run archived (its sha256 differs); restore the file"
        )
    _check_requests(run)
    return Cell(
        config=config,
        prompts=prompts,
        command=command,
        replay_of=manifest.run_id,
        expected_checkpoints=manifest.checkpoints,
        origin={key: value for key, value in to_builtins(manifest.dataset).items() if key in datasets.ORIGIN},
    )


def _check_requests(run: RunDirectory) -> None:
    """Refuses a run that a replay cannot be compared with, before anything is run.

    Raises:
        ArchiveError: its requests cannot be read, are fewer than its summary says, or none of them finished.
    """
    num_finished = sum(1 for record in run.requests() if record.phase == "measure" and record.error is None)
    counted = run.summary().requests.finished if run.summary_path.is_file() else num_finished
    if num_finished != counted:
        raise ArchiveInputError(
            f"{run.requests_path}: holds {num_finished} finished requests, and {run.summary_path.name} counted "
            f"{counted}; restore the file"
        )
    if num_finished == 0:
        raise ArchiveInputError(f"{run.requests_path}: none of its requests finished; there is nothing to compare with")


def _tree(run: RunDirectory, text: str) -> dict[str, Any]:
    """Returns the experiment of config.yaml.

    Raises:
        ArchiveInputError: it holds none.
    """
    try:
        tree = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ArchiveInputError(f"{run.config_path}: not YAML: {' '.join(str(error).split())}; restore it") from None
    if not isinstance(tree, dict):
        raise ArchiveInputError(f"{run.config_path}: holds no experiment; restore the file")
    return tree


def must_be_identical(manifest: Manifest) -> bool:
    """Whether a replay has to give the same tokens and steps: the engine reported so, and the temperature is 0."""
    is_greedy = number_option(manifest.config, "sampling", "temperature") == 0
    return manifest.engine.reproducible is True and is_greedy


def compare(
    original: Iterable[RequestRecord], replayed: Iterable[RequestRecord], *, is_whole: bool = True
) -> dict[str, Any]:
    """Returns how far two runs agree, over the requests that finished in both.

    If the original run was cut off (`is_whole` is false), the replay may have more requests.

    `num_identical_outputs` counts equal token ids; `num_identical_acceptance` equal tokens, proposals and
    accepted drafts in every step. `differences` lists the first few requests that differ, with the position
    of the first different token (`null`: the tokens are equal, the steps are not).
    """
    before, after = _finished_by_key(original), _finished_by_key(replayed)
    common = [key for key in before if key in after]
    differences: list[dict[str, Any]] = []
    same_outputs = same_acceptance = 0
    for key in common:
        outputs_equal = before[key].output_token_ids == after[key].output_token_ids
        acceptance_equal = _acceptance(before[key]) == _acceptance(after[key])
        same_outputs += outputs_equal
        same_acceptance += acceptance_equal
        if not (outputs_equal and acceptance_equal) and len(differences) < MAX_LISTED:
            prompt_id, turn, repeat = key
            position = first_difference(before[key].output_token_ids, after[key].output_token_ids)
            differences.append({"prompt_id": prompt_id, "turn": turn, "repeat": repeat, "first_difference": position})
    return {
        "num_compared": len(common),
        "num_identical_outputs": same_outputs,
        "num_identical_acceptance": same_acceptance,
        "num_only_in_original": len(before) - len(common),
        "num_only_in_replay": len(after) - len(common),
        "identical": same_outputs == same_acceptance == len(common) == len(before)
        and (len(after) == len(common) or not is_whole),
        "differences": differences,
    }


def environment_changes(original: Manifest, replayed: Manifest) -> dict[str, list[Any]]:
    """Returns what differs between the two environments: name -> [then, now]."""
    then, now = flatten(original.environment), flatten(replayed.environment)
    keys = sorted(then.keys() | now.keys())
    return {key: [then.get(key), now.get(key)] for key in keys if then.get(key) != now.get(key)}


def _finished_by_key(records: Iterable[RequestRecord]) -> dict[tuple[str, int, int], RequestRecord]:
    return {(r.prompt_id, r.turn, r.repeat): r for r in records if r.phase == "measure" and r.error is None}


def _acceptance(record: RequestRecord) -> list[tuple[int, int | None, int | None]]:
    return [(step.num_tokens, step.num_proposed, step.num_accepted) for step in record.steps]
