"""The real SGLang behind HTTP: the outputs and counts of SGLang in process, request by request.

As test_sglang.py it runs SGLang in .venv-sglang; the server's own processes inherit the kernels for CPUs.
"""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from specdec_bench.archive import RunDirectory
from specdec_bench.config.checkpoints import resolve
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
    requests,
    same_output,
)
from tests.helpers.mock_servers import assert_is_nowhere
from tests.helpers.server_kills import assert_killed_servers_end_their_cells_alone, assert_nothing_lives_on
from tests.helpers.sglang_sweeps import ENVIRONMENT, PYTHON, SETTINGS, sglang_sweep
from tests.helpers.user_servers import OTHER_EXPERIMENTS, Running, as_flags

pytestmark = pytest.mark.timeout(1800)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Cells:
    """By one server for each method, which the sweep starts."""
    return sglang_sweep(tmp_path_factory.mktemp("served"), "sglang_server")


@pytest.mark.parametrize("method", METHODS)
def test_outputs_and_counts_are_those_in_process(served: Cells, sglang_in_process: Cells, method: str) -> None:
    found, expected = requests(served[method, 1]), requests(sglang_in_process[method, 1])
    assert found.keys() == expected.keys()
    for request_id, record in found.items():
        assert record.error is None
        assert record.prompt_token_ids == expected[request_id].prompt_token_ids
        assert record.output_token_ids == expected[request_id].output_token_ids
        assert record.finish_reason == expected[request_id].finish_reason
        assert record.counters == expected[request_id].counters
        assert_same_steps(record, expected[request_id])


@pytest.mark.parametrize("method", ["none", "draft_model", "eagle3"])
def test_they_are_with_many_in_flight_too(served: Cells, sglang_in_process: Cells, method: str) -> None:
    """But where the batch makes another choice between two tokens that all but tie. n-grams depend on the batch."""
    for record, other in same_output(served[method, 16], sglang_in_process[method, 16]):
        assert record.counters == other.counters
        assert_same_steps(record, other)


@pytest.mark.parametrize("concurrency", CONCURRENCIES)
@pytest.mark.parametrize("method", METHODS[1:])
def test_requests_and_the_servers_counter_agree_exactly(served: Cells, method: str, concurrency: int) -> None:
    acceptance = served[method, concurrency].summary().acceptance
    assert acceptance.source == "engine_request"
    assert acceptance.cross_check.verify_steps > 50
    assert acceptance.cross_check.difference.verify_steps == 0


@pytest.mark.parametrize("method", METHODS)
def test_requests_have_their_steps_apart_unless_the_server_is_late(served: Cells, method: str) -> None:
    assert any(record.steps_are_exact for record in requests(served[method, 1]).values())


def test_one_server_serves_the_cells_of_a_method_and_says_what_it_runs(served: Cells) -> None:
    engines = [run.manifest().engine for run in served.values()]
    assert [engine.reused for engine in engines] == [False, True] * len(METHODS)
    for engine in engines:
        assert (engine.differences, engine.claimed, engine.num_accelerators) == ((), (), 0)
        assert engine.resolved["sglang"] == "0.5.20"
        assert not {"api_key", "launch_command"} & engine.resolved.keys()


def test_the_settings_are_those_in_process(served: Cells, sglang_in_process: Cells) -> None:
    """All that SGLang resolves, but for what only a server has, and the share of memory, which follows what is free."""
    for cell, run in served.items():
        over_http, direct = (one.manifest().engine.resolved for one in (run, sglang_in_process[cell]))
        differing = {name for name in over_http.keys() & direct.keys() if over_http[name] != direct[name]}
        only_a_servers = {"port", "served_model_name", "enable_metrics", "incremental_streaming_output"}
        assert differing <= only_a_servers | {"mem_fraction_static"}, cell


CHAIN = {"speculative-num-steps": 3, "speculative-eagle-topk": 1, "speculative-num-draft-tokens": 4}
N_GRAMS = {"speculative-ngram-max-bfs-breadth": 1, "speculative-ngram-max-trie-depth": 6}
DRAFTING: dict[str, dict[str, object]] = {
    "none": {},
    "ngram": {"speculative-algorithm": "NGRAM", "speculative-num-draft-tokens": 4} | N_GRAMS,
    "draft_model": {"speculative-algorithm": "STANDALONE", "speculative-draft-model-path": resolve(DRAFT)} | CHAIN,
    "eagle3": {"speculative-algorithm": "EAGLE3", "speculative-draft-model-path": resolve(HEAD)} | CHAIN,
}
"""What a user tells SGLang's server of each method."""


@pytest.fixture(scope="module")
def running(request: pytest.FixtureRequest) -> Iterator[Running]:
    """SGLang with a method as docs/engines/servers.md starts it, drafting three tokens, on the kernels for CPUs."""
    cpu = {
        **{"device": "cpu", "dtype": "float32", "max-running-requests": 16, "max-total-tokens": 16384},
        **{"attention-backend": "torch_native", "prefill-attention-backend": "intel_amx"},
        **{"decode-attention-backend": "intel_amx", "random-seed": 0},
    }
    flags = ["--incremental-streaming-output", "--enable-metrics", "--disable-radix-cache", "--disable-cuda-graph"]
    with user_servers.running(
        "sglang.launch_server",
        [*as_flags({"model-path": resolve(TARGET)} | DRAFTING[request.param] | cpu), *flags],
        python=PYTHON,
        environment=ENVIRONMENT,
    ) as server:
        yield server


def attach(running: Running, folder: Path, *overrides: str) -> "subprocess.CompletedProcess[str]":
    arguments = ["engine=sglang_server", f"engine.url={running.url}", "engine.max_num_seqs=16"]
    arguments += [*SETTINGS, *COMMON, *overrides]
    return command_line(folder, *arguments, python=PYTHON, environment=ENVIRONMENT | running.environment)


CLOSED = ["load.concurrency=1"]
POISSON = ["load=poisson", "load.rate=8", "load.max_in_flight=16"]


@pytest.mark.parametrize(
    ("running", "method", "load"),
    [*((method, method, CLOSED) for method in METHODS), ("draft_model", "draft_model", POISSON)],
    ids=[*METHODS, "poisson"],
    indirect=["running"],
)
def test_a_server_that_runs_already_gives_the_same(
    running: Running, sglang_in_process: Cells, tmp_path: Path, method: str, load: list[str]
) -> None:
    done = attach(running, tmp_path, "engine.api_key_env=THE_KEY", f"spec={method}", *load, "hydra.run.dir=run")
    assert done.returncode == 0, done.stderr[-2000:]
    run = RunDirectory.open(tmp_path / "run")
    for record, other in same_output(run, sglang_in_process[method, 1]):
        assert record.counters == other.counters
        assert_same_steps(record, other)
    if method != "none":
        assert run.summary().acceptance.cross_check.difference.verify_steps == 0
    assert_is_nowhere(running.key, tmp_path / "run")


@pytest.mark.parametrize("running", ["draft_model"], indirect=True)
@pytest.mark.parametrize(("overrides", "words"), OTHER_EXPERIMENTS)
def test_a_server_that_runs_something_else_is_refused(
    running: Running, tmp_path: Path, overrides: list[str], words: str
) -> None:
    done = attach(running, tmp_path, *overrides)
    assert done.returncode == 2
    assert words in error_line(done.stderr)


def test_a_killed_scheduler_and_a_killed_server_end_their_cells_alone(tmp_path: Path) -> None:
    assert_killed_servers_end_their_cells_alone(
        tmp_path,
        "engine=sglang_server",
        *SETTINGS,
        process_name="sglang::schedul",
        python=PYTHON,
        environment=ENVIRONMENT,
    )


def test_nothing_lives_on_after_the_run_is_killed(tmp_path: Path) -> None:
    assert_nothing_lives_on(tmp_path, "engine=sglang_server", *SETTINGS, python=PYTHON, environment=ENVIRONMENT)
