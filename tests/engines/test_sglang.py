"""The real SGLang on the bundled models, on a CPU, through the command line, against the transformers engine.

SGLang and vLLM cannot share an environment: `make test` gives SGLang .venv-sglang. Its scheduler, speculative workers
and tokenizer manager are the released ones; its kernels for CPUs, which no registry has, are those of tests/sglang_cpu.
One sweep: 4 methods x 2 concurrencies. A machine without it fails here; that is meant.
"""

from pathlib import Path

import pytest

from specdec_bench.archive import RunDirectory
from tests.helpers.engine_sweeps import (
    COMMON,
    CONCURRENCIES,
    METHODS,
    Cells,
    assert_a_killed_engine_ends_its_cell_alone,
    assert_every_chunk_is_one_step,
    assert_lengths_are_those_of_the_bundled_drafters,
    assert_outputs_agree,
    command_line,
    error_line,
    pooled,
    requests,
    same_output,
)
from tests.helpers.sglang_sweeps import ENVIRONMENT, PYTHON, SETTINGS

SGLANG = ["engine=sglang", *SETTINGS]

pytestmark = pytest.mark.timeout(1200)


@pytest.fixture(scope="module")
def sweep(sglang_in_process: Cells) -> Cells:
    return sglang_in_process


@pytest.mark.parametrize("concurrency", CONCURRENCIES)
@pytest.mark.parametrize("method", METHODS)
def test_outputs_are_those_of_transformers(
    sweep: Cells, truth: dict[str, RunDirectory], method: str, concurrency: int
) -> None:
    assert_outputs_agree(sweep[method, concurrency], truth["none"])


@pytest.mark.parametrize("concurrency", CONCURRENCIES)
def test_acceptance_is_that_of_transformers_step_for_step(
    sweep: Cells, truth: dict[str, RunDirectory], concurrency: int
) -> None:
    """All but each request's last step, which SGLang does not shorten to what the request may still emit."""
    for record, other in same_output(sweep["draft_model", concurrency], truth["draft_model"]):
        told, expected = ([step.num_accepted for step in one.steps[:-1]] for one in (record, other))
        assert told == expected, record.request_id
        assert [step.num_tokens for step in record.steps] == [step.num_tokens for step in other.steps]


@pytest.mark.parametrize("concurrency", CONCURRENCIES)
@pytest.mark.parametrize("method", METHODS[1:])
def test_the_steps_add_up_to_the_schedulers_counts(sweep: Cells, method: str, concurrency: int) -> None:
    run = sweep[method, concurrency]
    assert run.summary().acceptance.source == "engine_request"
    for record in requests(run).values():
        counters, decode_steps = record.counters, record.steps[1:]
        assert counters is not None
        accepted = [step.num_accepted or 0 for step in decode_steps]
        assert counters.num_verify_steps == counters.num_decode_steps == len(decode_steps), record.request_id
        assert counters.num_accepted == sum(accepted)
        assert counters.num_proposed == (None if method == "ngram" else 3 * len(decode_steps))
        assert counters.histogram == tuple(accepted.count(number) for number in range(4)), record.request_id


@pytest.mark.parametrize("concurrency", CONCURRENCIES)
@pytest.mark.parametrize("method", METHODS)
def test_every_chunk_is_one_engine_step(sweep: Cells, method: str, concurrency: int) -> None:
    assert_every_chunk_is_one_step(sweep[method, concurrency], longest=1 if method == "none" else 4)


def test_the_methods_accept_as_much_as_they_should(sweep: Cells) -> None:
    assert_lengths_are_those_of_the_bundled_drafters({method: sweep[method, 1] for method in METHODS})


def test_a_tree_of_drafts_accepts_more_and_changes_nothing(
    sweep: Cells, truth: dict[str, RunDirectory], tmp_path: Path
) -> None:
    """Two candidates at each depth, 7 tokens to verify in all."""
    tree = ["spec=eagle3", "spec.topk=2", "spec.num_draft_tokens=7", "hydra.run.dir=tree"]
    done = command_line(tmp_path, *SGLANG, *COMMON, *tree, python=PYTHON, environment=ENVIRONMENT)
    assert done.returncode == 0, done.stderr[-2000:]
    run = RunDirectory.open(tmp_path / "tree")
    assert_outputs_agree(run, truth["none"])
    assert pooled(run).acceptance_length > pooled(sweep["eagle3", 1]).acceptance_length
    for record in requests(run).values():
        assert record.counters is not None
        assert record.counters.num_accepted == sum(step.num_accepted or 0 for step in record.steps)


def test_a_sweep_starts_one_engine_for_each_method(sweep: Cells) -> None:
    manifests = [run.manifest() for run in sweep.values()]
    assert [manifest.engine.reused for manifest in manifests] == [False, True] * len(METHODS)
    # Fixed for the sweep: its largest concurrency, not the cell's own.
    assert {manifest.engine.arguments["max_running_requests"] for manifest in manifests} == {16}
    assert {manifest.engine.resolved["max_running_requests"] for manifest in manifests} == {16}
    assert {manifest.engine.resolved["disable_radix_cache"] for manifest in manifests} == {True}


def test_a_scheduler_that_is_killed_ends_the_run_in_one_line(tmp_path: Path) -> None:
    assert_a_killed_engine_ends_its_cell_alone(
        tmp_path,
        *SGLANG,
        process_name="sglang::schedu",
        words="scheduler died",
        python=PYTHON,
        environment=ENVIRONMENT,
    )


@pytest.mark.parametrize(
    ("overrides", "status", "words"),
    [
        (["+engine.extra_args.schedule_polcy=fcfs"], 2, "engine.extra_args.schedule_polcy: SGLang 0.5.20 has no such"),
        (["+engine.extra_args.context_length=1"], 2, "use model.max_seq_len"),
        (["model.max_seq_len=100000"], 2, "the model has positions for 8192 tokens"),
    ],
)
def test_what_sglang_cannot_run_is_one_line(tmp_path: Path, overrides: list[str], status: int, words: str) -> None:
    done = command_line(tmp_path, *SGLANG, "spec=none", *overrides, python=PYTHON, environment=ENVIRONMENT)
    assert done.returncode == status
    assert words in error_line(done.stderr)
