"""The real vLLM on the bundled models, through the command line, against the transformers engine.

One sweep: 4 methods x 2 concurrencies. A machine without vLLM fails here; that is meant.
"""

import shutil
from pathlib import Path

import pytest
from command_line_runs import (
    COMMON,
    assert_a_killed_engine_ends_the_run_in_one_line,
    assert_every_chunk_is_one_step,
    assert_outputs_agree,
    command_line,
    error_line,
    pooled,
    same_output,
)
from command_line_runs import sweep as run_sweep
from engine_runs import DRAFT

from specdec_bench.archive import RunDirectory
from specdec_bench.config.checkpoints import resolve

METHODS = ("none", "ngram", "draft_model", "eagle3")
CONCURRENCIES = (1, 16)
VLLM = ["engine=vllm", "engine.enforce_eager=true"]  # compiling takes longer than the runs

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, int], RunDirectory]:
    """The finished cells by method and concurrency."""
    folder = tmp_path_factory.mktemp("vllm")
    grid = [f"spec={','.join(METHODS)}", f"load.concurrency={','.join(map(str, CONCURRENCIES))}"]
    cells = [(method, concurrency) for method in METHODS for concurrency in CONCURRENCIES]
    return dict(zip(cells, run_sweep(folder, *VLLM, *COMMON, *grid), strict=True))


@pytest.fixture(scope="module")
def truth(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunDirectory]:
    """What the transformers engine makes of the same prompts, by method."""
    folder = tmp_path_factory.mktemp("transformers")
    runs = run_sweep(folder, *COMMON, "spec=none,ngram,draft_model")
    return dict(zip(METHODS[:3], runs, strict=True))


@pytest.mark.parametrize("concurrency", CONCURRENCIES)
@pytest.mark.parametrize("method", METHODS)
def test_outputs_are_those_of_transformers(
    sweep: dict[tuple[str, int], RunDirectory], truth: dict[str, RunDirectory], method: str, concurrency: int
) -> None:
    assert_outputs_agree(sweep[method, concurrency], truth["none"])


@pytest.mark.parametrize("concurrency", CONCURRENCIES)
@pytest.mark.parametrize("method", ["ngram", "draft_model"])
def test_acceptance_is_that_of_transformers_step_for_step(
    sweep: dict[tuple[str, int], RunDirectory], truth: dict[str, RunDirectory], method: str, concurrency: int
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
def test_request_counts_and_the_engines_totals_agree_exactly(
    sweep: dict[tuple[str, int], RunDirectory], method: str, concurrency: int
) -> None:
    acceptance = sweep[method, concurrency].summary()["acceptance"]
    assert acceptance["source"] == "engine_request"
    assert acceptance["cross_check"]["verify_steps"] > 100
    assert set(acceptance["cross_check"]["difference"].values()) == {0}


@pytest.mark.parametrize("concurrency", CONCURRENCIES)
@pytest.mark.parametrize("method", METHODS)
def test_every_chunk_is_one_engine_step(
    sweep: dict[tuple[str, int], RunDirectory], method: str, concurrency: int
) -> None:
    assert_every_chunk_is_one_step(sweep[method, concurrency], longest=1 if method == "none" else 4)


def test_the_methods_accept_as_much_as_they_should(sweep: dict[tuple[str, int], RunDirectory]) -> None:
    lengths = {method: pooled(sweep[method, 1])["acceptance_length"] for method in METHODS}
    assert lengths["none"] == 1
    assert lengths["ngram"] > 1.2
    assert 1.6 < lengths["draft_model"] < 3.2
    assert lengths["eagle3"] >= 1.8


def test_a_sweep_starts_one_engine_for_each_method(sweep: dict[tuple[str, int], RunDirectory]) -> None:
    manifests = {cell: run.manifest() for cell, run in sweep.items()}
    assert [manifest.engine["reused"] for manifest in manifests.values()] == [False, True] * len(METHODS)
    # Fixed for the sweep: its largest concurrency, not the cell's own.
    assert {manifest.engine["arguments"]["max_num_seqs"] for manifest in manifests.values()} == {16}
    assert {manifest.engine["resolved"]["scheduler_config"]["max_num_seqs"] for manifest in manifests.values()} == {16}


def test_an_engine_core_that_is_killed_ends_the_run_in_one_line(tmp_path: Path) -> None:
    assert_a_killed_engine_ends_the_run_in_one_line(
        tmp_path,
        *VLLM,
        process_name="VLLM::EngineCor",
        words="engine core died",
    )


@pytest.mark.parametrize(
    ("overrides", "status", "words"),
    [
        (["+engine.extra_args.swap_spaec=1"], 2, "engine.extra_args.swap_spaec: vLLM"),
        (["+engine.extra_args.max_model_len=1"], 2, "use model.max_seq_len"),
        (["model.max_seq_len=100000"], 1, "did not start"),
        (["spec=draft_model", "spec.draft.path=wider"], 2, "its vocabulary has 4096 tokens, the target's 2048"),
    ],
)
def test_what_vllm_cannot_run_is_one_line(tmp_path: Path, overrides: list[str], status: int, words: str) -> None:
    wider = tmp_path / "wider"
    shutil.copytree(resolve(DRAFT), wider)
    config = (wider / "config.json").read_text()
    (wider / "config.json").write_text(config.replace('"vocab_size": 2048', '"vocab_size": 4096'))
    done = command_line(tmp_path, *VLLM, "spec=none", *overrides)
    assert done.returncode == status
    assert words in error_line(done.stderr)
