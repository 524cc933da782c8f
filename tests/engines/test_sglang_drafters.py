"""EAGLE-1, multi-token prediction and a target that drafts for itself on the real SGLang, as test_sglang.py runs it."""

import subprocess
import sys

import pytest

from specdec_bench.archive import RunDirectory
from tests.helpers.draft_steps import Replay, replay
from tests.helpers.drafters_in_torch import (
    Drafter,
    DraftModel,
    DraftModelWithoutTheFirstToken,
    Eagle,
    Mtp,
    MtpAfterTheNorm,
)
from tests.helpers.engine_sweeps import (
    COMMON,
    NEAR_TIE,
    ROOT,
    Cells,
    assert_every_chunk_is_one_step,
    assert_outputs_are_those_of_plain_decoding,
    pooled,
    requests,
    sweep,
)
from tests.helpers.llama_in_torch import Llama, read_checkpoint
from tests.helpers.sglang_sweeps import ENVIRONMENT, PYTHON, SETTINGS

pytestmark = pytest.mark.timeout(1800)

METHODS = ("eagle", "mtp")
ITSELF = "itself"
"""`draft_model` with the target as its draft, which could accept every draft."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunDirectory]:
    """One run by method and of ITSELF, K=3. The MTP target holds the bundled target's weights."""
    folder = tmp_path_factory.mktemp("sglang_drafters")
    mimo = folder / "mimo"
    subprocess.run([sys.executable, str(ROOT / "training" / "mtp.py"), str(mimo)], check=True)
    overrides = {
        "eagle": ["spec=eagle"],
        "mtp": ["spec=mtp", "model=custom", f"model.path={mimo}"],
        ITSELF: ["spec=draft_model", "spec.draft.path=bundled:tiny/target"],
    }
    found = {}
    for method, more in overrides.items():
        own = folder / method
        own.mkdir()
        arguments = ["engine=sglang", *SETTINGS, *COMMON, *more, "spec.draft_length=3"]
        (found[method],) = sweep(own, *arguments, python=PYTHON, environment=ENVIRONMENT)
    return found


def test_they_accept_as_much_as_they_should(runs: dict[str, RunDirectory]) -> None:
    """A head that SGLang loads as a plain model accepts nothing."""
    assert pooled(runs["eagle"]).acceptance_length > 1.6
    assert pooled(runs["mtp"]).acceptance_length > 1.8


@pytest.mark.parametrize("method", [*METHODS, ITSELF])
def test_outputs_are_those_of_plain_decoding(
    runs: dict[str, RunDirectory], sglang_in_process: Cells, method: str
) -> None:
    assert_outputs_are_those_of_plain_decoding(runs[method], sglang_in_process["none", 1])


@pytest.mark.parametrize("method", [*METHODS, ITSELF])
def test_steps_and_the_schedulers_counts_agree(runs: dict[str, RunDirectory], method: str) -> None:
    assert_every_chunk_is_one_step(runs[method], longest=4)
    for record in requests(runs[method]).values():
        assert record.counters is not None
        assert record.counters.num_accepted == sum(step.num_accepted or 0 for step in record.steps), record.request_id
        assert record.counters.num_verify_steps == len(record.steps) - 1


def replay_in_torch(run: RunDirectory, name: str, drafter: type[Drafter]) -> Replay:
    target = Llama(read_checkpoint("target"))
    return replay(drafter(read_checkpoint(name), target), target, requests(run).values(), k=3)


@pytest.mark.parametrize(
    ("label", "name", "drafter"),
    [("eagle", "eagle", Eagle), ("mtp", "mtp", MtpAfterTheNorm), (ITSELF, "target", DraftModelWithoutTheFirstToken)],
)
def test_each_step_accepts_what_plain_torch_drafts(
    runs: dict[str, RunDirectory], label: str, name: str, drafter: type[Drafter]
) -> None:
    steps, mismatches = replay_in_torch(runs[label], name, drafter)
    assert steps > 150
    assert len(mismatches) <= 0.01 * steps, mismatches
    assert all(mismatch.gap < NEAR_TIE for mismatch in mismatches), mismatches


@pytest.mark.parametrize(("label", "name", "drafter"), [("mtp", "mtp", Mtp), (ITSELF, "target", DraftModel)])
def test_two_drafters_are_not_what_they_were_trained_as(
    runs: dict[str, RunDirectory], label: str, name: str, drafter: type[Drafter]
) -> None:
    """Where this fails, SGLang has mended it: expect that drafter above, and drop the note of the run."""
    steps, mismatches = replay_in_torch(runs[label], name, drafter)
    assert len(mismatches) > 0.02 * steps


def test_the_run_warns_that_a_draft_model_lacks_the_prompts_first_token(runs: dict[str, RunDirectory]) -> None:
    assert sum("without its first token" in warning for warning in runs[ITSELF].summary().warnings) == 1
