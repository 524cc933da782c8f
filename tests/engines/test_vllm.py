"""The real vLLM on the bundled models, through the command line, against the transformers engine.

One sweep of 4 methods x 2 concurrencies, and one with hundreds of requests in flight. A machine without vLLM fails
here; that is meant.
"""

import itertools
from collections.abc import Iterable

import pytest
from msgspec.structs import astuple

from specdec_bench.archive import RunDirectory
from specdec_bench.records.request import RequestRecord
from tests.helpers.engine_sweeps import (
    CONCURRENCIES,
    METHODS,
    Cells,
    assert_every_chunk_is_one_step,
    assert_lengths_are_those_of_the_bundled_drafters,
    assert_outputs_agree,
    requests,
    same_output,
)
from tests.helpers.engine_sweeps import sweep as run_sweep

VLLM = ["engine=vllm", "engine.enforce_eager=true"]  # compiling takes longer than the runs

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def sweep(vllm_in_process: Cells) -> Cells:
    return vllm_in_process


@pytest.mark.parametrize("concurrency", CONCURRENCIES)
@pytest.mark.parametrize("method", METHODS)
def test_outputs_are_those_of_transformers(
    sweep: Cells, truth: dict[str, RunDirectory], method: str, concurrency: int
) -> None:
    assert_outputs_agree(sweep[method, concurrency], truth["none"])


@pytest.mark.parametrize("concurrency", CONCURRENCIES)
@pytest.mark.parametrize("method", ["ngram", "draft_model"])
def test_acceptance_is_that_of_transformers_step_for_step(
    sweep: Cells, truth: dict[str, RunDirectory], method: str, concurrency: int
) -> None:
    """All but each request's last decode step, which vLLM does not shorten to what the request may still emit.

    transformers' lookup drops a proposal that begins with a stop token, where vLLM verifies and rejects it: such a
    step accepts nothing in either. So of n-grams the steps' tokens and the accepted drafts are compared, not which
    of the steps that accepted nothing had something to verify.
    """
    for record, other in same_output(sweep[method, concurrency], truth[method]):
        assert record.counters is not None
        told = list(record.counters.per_step_accepted or ())
        drafted = [step.num_accepted for step in other.steps[1:-1] if step.num_proposed]
        if method == "ngram":
            told, drafted = ([number for number in numbers if number] for numbers in (told, drafted))
        assert told[: len(drafted)] == drafted, record.request_id
        assert len(told) - len(drafted) in (0, 1), record.request_id
        assert [step.num_tokens for step in record.steps] == [step.num_tokens for step in other.steps]


@pytest.mark.parametrize("concurrency", CONCURRENCIES)
@pytest.mark.parametrize("method", METHODS[1:])
def test_request_counts_and_the_engines_totals_agree_exactly(sweep: Cells, method: str, concurrency: int) -> None:
    acceptance = sweep[method, concurrency].summary().acceptance
    assert acceptance.source == "engine_request"
    assert acceptance.cross_check.verify_steps > 100
    assert set(astuple(acceptance.cross_check.difference)) == {0}


@pytest.mark.parametrize("concurrency", CONCURRENCIES)
@pytest.mark.parametrize("method", METHODS)
def test_every_chunk_is_one_engine_step(sweep: Cells, method: str, concurrency: int) -> None:
    assert_every_chunk_is_one_step(sweep[method, concurrency], longest=1 if method == "none" else 4)


def test_the_methods_accept_as_much_as_they_should(sweep: Cells) -> None:
    assert_lengths_are_those_of_the_bundled_drafters({method: sweep[method, 1] for method in METHODS})


def test_a_sweep_starts_one_engine_for_each_method(sweep: Cells) -> None:
    manifests = {cell: run.manifest() for cell, run in sweep.items()}
    assert [manifest.engine.reused for manifest in manifests.values()] == [False, True] * len(METHODS)
    # Fixed for the sweep: its largest concurrency, not the cell's own.
    assert {manifest.engine.arguments["max_num_seqs"] for manifest in manifests.values()} == {16}
    assert {manifest.engine.resolved["scheduler_config"]["max_num_seqs"] for manifest in manifests.values()} == {16}


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[int, RunDirectory]:
    """Finished cells by concurrency, with more conversations than are in flight."""
    folder = tmp_path_factory.mktemp("loaded")
    load = ["load.concurrency=64,256", "load.repeats=7", "sampling.max_new_tokens=16"]
    return dict(zip((64, 256), run_sweep(folder, *VLLM, "spec=draft_model", *load), strict=True))


@pytest.mark.parametrize("concurrency", [64, 256])
def test_under_load_records_and_totals_agree_exactly(loaded: dict[int, RunDirectory], concurrency: int) -> None:
    run = loaded[concurrency]
    records, acceptance, totals = requests(run), run.summary().acceptance, run.manifest().engine_totals
    assert most_in_flight(records.values()) == concurrency
    assert totals is not None
    assert acceptance.pooled.acceptance_length_drafted == 1 + totals.num_accepted / totals.num_verify_steps
    assert set(astuple(acceptance.cross_check.difference)) == {0}
    # Every chunk is still one step: of up to 4 tokens, and all of them as many as vLLM counted.
    assert sum(len(record.steps) - 1 for record in records.values()) == totals.num_decode_steps
    assert all(step.num_tokens <= 4 for record in records.values() for step in record.steps)


def most_in_flight(records: Iterable[RequestRecord]) -> int:
    """Returns the largest number of requests that were sent and not yet answered at one time."""
    spans = [(record.sent_ns or 0, record.steps[-1].received_ns) for record in records]
    changes = sorted([(sent, 1) for sent, _ in spans] + [(ended, -1) for _, ended in spans])
    return max(itertools.accumulate(change for _, change in changes))
