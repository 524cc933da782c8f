"""EAGLE-1 heads and multi-token prediction on the real SGLang, as test_sglang.py runs it."""

import subprocess
import sys

import pytest

from specdec_bench.archive import RunDirectory
from tests.helpers.engine_sweeps import (
    COMMON,
    ROOT,
    Cells,
    assert_every_chunk_is_one_step,
    assert_outputs_are_those_of_plain_decoding,
    pooled,
    requests,
    sweep,
)
from tests.helpers.sglang_sweeps import ENVIRONMENT, PYTHON, SETTINGS

pytestmark = pytest.mark.timeout(1800)

METHODS = ("eagle", "mtp")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunDirectory]:
    """One run by method, K=3. The MTP target holds the bundled target's weights."""
    folder = tmp_path_factory.mktemp("sglang_drafters")
    mimo = folder / "mimo"
    subprocess.run([sys.executable, str(ROOT / "training" / "mtp.py"), str(mimo)], check=True)
    overrides = {"eagle": [], "mtp": ["model=custom", f"model.path={mimo}"]}
    found = {}
    for method, more in overrides.items():
        own = folder / method
        own.mkdir()
        arguments = ["engine=sglang", *SETTINGS, *COMMON, f"spec={method}", "spec.draft_length=3", *more]
        (found[method],) = sweep(own, *arguments, python=PYTHON, environment=ENVIRONMENT)
    return found


def test_they_accept_as_much_as_they_should(runs: dict[str, RunDirectory]) -> None:
    """A head that SGLang loads as a plain model accepts nothing."""
    assert pooled(runs["eagle"]).acceptance_length > 1.6
    assert pooled(runs["mtp"]).acceptance_length > 1.8


@pytest.mark.parametrize("method", METHODS)
def test_outputs_are_those_of_plain_decoding(
    runs: dict[str, RunDirectory], sglang_in_process: Cells, method: str
) -> None:
    assert_outputs_are_those_of_plain_decoding(runs[method], sglang_in_process["none", 1])


@pytest.mark.parametrize("method", METHODS)
def test_steps_and_the_schedulers_counts_agree(runs: dict[str, RunDirectory], method: str) -> None:
    assert_every_chunk_is_one_step(runs[method], longest=4)
    for record in requests(runs[method]).values():
        assert record.counters is not None
        assert record.counters.num_accepted == sum(step.num_accepted or 0 for step in record.steps), record.request_id
        assert record.counters.num_verify_steps == len(record.steps) - 1
