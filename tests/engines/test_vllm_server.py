"""The real vLLM behind HTTP, started by the run and running already: the outputs and counts of vLLM in process."""

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from specdec_bench.archive import RunDirectory
from specdec_bench.config.checkpoints import resolve
from specdec_bench.records.request import RequestRecord
from tests.helpers import user_servers
from tests.helpers.engine_runs import DRAFT, HEAD, TARGET
from tests.helpers.engine_sweeps import (
    COMMON,
    CONCURRENCIES,
    METHODS,
    Cells,
    assert_same_steps,
    command_line,
    error_line,
    grid_once,
    requests,
    same_output,
)
from tests.helpers.mock_servers import assert_is_nowhere
from tests.helpers.server_kills import assert_nothing_lives_on
from tests.helpers.user_servers import OTHER_EXPERIMENTS, Running, as_flags

pytestmark = pytest.mark.timeout(1800)

EAGER = "engine.enforce_eager=true"  # compiling takes longer than the runs


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Cells:
    """By one server for each method, which the sweep starts."""
    return grid_once(tmp_path_factory.mktemp("served"), "engine=vllm_server", EAGER)


def drafts(record: RequestRecord) -> tuple[tuple[int, ...] | None, ...]:
    counters = record.counters
    return () if counters is None else (counters.per_step_proposed, counters.per_step_accepted)


@pytest.mark.parametrize("method", METHODS)
def test_outputs_and_counts_are_those_in_process(served: Cells, vllm_in_process: Cells, method: str) -> None:
    found, expected = requests(served[method, 1]), requests(vllm_in_process[method, 1])
    assert found.keys() == expected.keys()
    for request_id, record in found.items():
        assert record.error is None
        assert record.output_token_ids == expected[request_id].output_token_ids
        assert drafts(record) == drafts(expected[request_id])
        assert_same_steps(record, expected[request_id])
    assert any(record.steps_are_exact for record in found.values()), "unless the server is late"


@pytest.mark.parametrize("method", METHODS)
def test_they_are_with_many_in_flight_too(served: Cells, vllm_in_process: Cells, method: str) -> None:
    """But where the batch makes another choice between two tokens that all but tie."""
    for record, other in same_output(served[method, 16], vllm_in_process[method, 16]):
        assert drafts(record) == drafts(other)
        assert_same_steps(record, other)


@pytest.mark.parametrize("concurrency", CONCURRENCIES)
@pytest.mark.parametrize("method", METHODS[1:])
def test_requests_and_the_servers_counters_agree_exactly(served: Cells, method: str, concurrency: int) -> None:
    assert_counters_agree(served[method, concurrency])


def assert_counters_agree(run: RunDirectory) -> None:
    acceptance = run.summary().acceptance
    assert acceptance.source == "engine_request"
    assert acceptance.cross_check.verify_steps > 50
    difference = acceptance.cross_check.difference
    assert (difference.verify_steps, difference.proposed, difference.accepted) == (0, 0, 0)


def test_one_server_serves_the_cells_of_a_method_and_says_what_it_runs(served: Cells) -> None:
    assert [run.manifest().engine.reused for run in served.values()] == [False, True] * len(METHODS)
    for (method, _), run in served.items():
        engine = run.manifest().engine
        drafting = engine.resolved["speculative_config"]
        assert (None if drafting is None else drafting["num_speculative_tokens"]) == (None if method == "none" else 3)
        assert (engine.differences, engine.claimed, engine.num_accelerators) == ((), (), 0)
        assert all(record.server_times for record in requests(run).values())


DRAFTING = {
    "none": {},
    "ngram": {"prompt_lookup_min": 1, "prompt_lookup_max": 3},
    "draft_model": {"model": resolve(DRAFT)},
    "eagle3": {"model": resolve(HEAD)},
}
"""What a user tells vLLM's server of each method."""


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    """vLLM with a method as docs/engines/servers.md starts it, drafting three tokens."""
    arguments = {"model": resolve(TARGET), "dtype": "float32", "max-num-seqs": 16, "generation-config": "vllm"}
    if request.param != "none":
        drafting = {"method": request.param, "num_speculative_tokens": 3} | DRAFTING[request.param]
        arguments |= {"speculative-config": json.dumps(drafting), "per-request-spec-decode-metrics": "detailed"}
    flags = ["--no-enable-prefix-caching", "--enable-per-request-metrics", "--enforce-eager"]
    with user_servers.running(
        "vllm.entrypoints.openai.api_server",
        [*as_flags(arguments), *flags],
        key_variable="VLLM_API_KEY",
        environment={"VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"},
    ) as server:
        yield server


def attach(running: Running, folder: Path, *overrides: str) -> "subprocess.CompletedProcess[str]":
    arguments = ["engine=vllm_server", f"engine.url={running.url}", EAGER, *COMMON, *overrides]
    return command_line(folder, *arguments, environment=running.environment)


CLOSED = ["load.concurrency=4"]
POISSON = ["load=poisson", "load.rate=8", "load.max_in_flight=16", "engine.max_num_seqs=16"]


@pytest.mark.parametrize(
    ("running", "method", "load"),
    [*((method, method, CLOSED) for method in METHODS), ("draft_model", "draft_model", POISSON)],
    ids=[*METHODS, "poisson"],
    indirect=["running"],
)
def test_a_server_that_runs_already_gives_the_same(
    running: Running, vllm_in_process: Cells, tmp_path: Path, method: str, load: list[str]
) -> None:
    done = attach(running, tmp_path, "engine.api_key_env=THE_KEY", f"spec={method}", *load, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr[-2000:]
    run = RunDirectory.open(tmp_path / "run")
    for record, other in same_output(run, vllm_in_process[method, 1]):
        assert drafts(record) == drafts(other)
        assert_same_steps(record, other)
    if method != "none":
        assert_counters_agree(run)
    assert_is_nowhere(running.key, tmp_path / "run")


@pytest.mark.parametrize("running", ["draft_model"], indirect=True)
@pytest.mark.parametrize(("overrides", "words"), OTHER_EXPERIMENTS)
def test_a_server_that_runs_something_else_is_refused(
    running: Running, tmp_path: Path, overrides: list[str], words: str
) -> None:
    done = attach(running, tmp_path, *overrides)
    assert done.returncode == 2
    assert words in error_line(done.stderr)


def test_nothing_lives_on_after_the_run_is_killed(tmp_path: Path) -> None:
    assert_nothing_lives_on(tmp_path, "engine=vllm_server", EAGER)
