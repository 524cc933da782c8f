"""Servers behind a network that is slow, cuts and joins their bytes, or stops passing them."""

import pytest

from specdec_bench.archive import RunDirectory
from specdec_bench.records.request import RequestRecord
from tests.helpers.command_line import CommandLine, Outcome
from tests.helpers.mock_http import steps
from tests.helpers.mock_servers import serving
from tests.helpers.slow_network import Network, slow_network

NETWORKS = {
    "slow": Network(latency_s=0.03, bytes_per_s=100_000),
    "buffering": Network(hold_s=0.03),
}


def measure(command_line: CommandLine, engine: str, url: str, *overrides: str) -> Outcome:
    sizes = ["dataset.num_prompts=4", "sampling.max_new_tokens=24", "load.num_warmup=1", "hydra.run.dir=run"]
    return command_line(f"engine={engine}", f"engine.url={url}", "spec=draft_model", *sizes, *overrides)


def measured(run: RunDirectory) -> list[RequestRecord]:
    return [record for record in run.requests() if record.phase == "measure"]


@pytest.mark.parametrize(
    ("engine", "module", "network"),
    [
        ("vllm_server", "mock_completions", "slow"),
        ("vllm_server", "mock_completions", "buffering"),
        ("sglang_server", "mock_generate", "slow"),
    ],
)
def test_outputs_and_counts_are_those_of_the_server(
    command_line: CommandLine, engine: str, module: str, network: str
) -> None:
    """The steps of a reply accept 2, 0, 1, 3 drafts, again and again, however its bytes came."""
    with (
        serving(module, MOCK_MODEL="target", MOCK_WORD=" naïve 木") as direct,
        slow_network(direct, NETWORKS[network]) as url,
    ):
        outcome = measure(command_line, engine, url, "load.concurrency=2")
    assert outcome.status == 0, outcome.stderr
    run = RunDirectory.open(command_line.folder / "run")
    expected = steps(24)
    assert len(measured(run)) >= 4
    for record in measured(run):
        assert record.error is None
        assert len(record.output_token_ids) == 24
        assert record.counters is not None
        assert (record.counters.num_verify_steps, record.counters.num_accepted) == (9, 14)
        assert [step.num_accepted for step in record.steps] == [0, *expected]
        assert [step.num_tokens for step in record.steps] == [1, 3, 1, 2, 4, 3, 1, 2, 4, 3]
        times = [step.received_ns for step in record.steps]
        assert times == sorted(times)
        if network == "buffering":
            assert len(set(times)) < len(times), "nothing was joined"
    summary = run.summary()
    assert summary.latency.tpot_ms.count == len(measured(run))
    assert (summary.joined_chunks > 0) == any("JOINED: " in warning for warning in summary.warnings)
    if network == "buffering":
        assert summary.joined_chunks > 0
        assert summary.latency.step_time_ms.count == 0
    acceptance = summary.acceptance
    assert acceptance.source == "engine_request"
    assert acceptance.cross_check is not None
    assert acceptance.cross_check.difference.verify_steps == 0
    assert acceptance.pooled.acceptance_length == pytest.approx(23 / 9)


@pytest.mark.parametrize(
    ("engine", "module"), [("vllm_server", "mock_completions"), ("sglang_server", "mock_generate")]
)
def test_events_of_several_steps_stay_exact_and_are_known_as_such(
    command_line: CommandLine, engine: str, module: str
) -> None:
    """The server joins each two steps, and the network joins its events: a chunk may be joined in both ways."""
    with serving(module, "merged", MOCK_MODEL="target") as direct, slow_network(direct, NETWORKS["buffering"]) as url:
        outcome = measure(command_line, engine, url, "load.concurrency=2")
    assert outcome.status == 0, outcome.stderr
    run = RunDirectory.open(command_line.folder / "run")
    records, summary = measured(run), run.summary()
    assert len(records) >= 4
    num_joined = 0
    for record in records:
        assert record.error is None
        counts = record.counters
        assert counts is not None
        assert (counts.num_verify_steps, counts.num_accepted, counts.num_decode_steps) == (9, 14, 9)
        assert [step.num_tokens for step in record.steps] == [1, 4, 6, 4, 6, 3]
        assert {step.num_accepted for step in record.steps} == {None}
        times = [step.received_ns for step in record.steps]
        assert times == sorted(times)
        num_joined += len(times) - len(set(times))
    assert summary.merged_chunks == 5 * len(records)
    assert summary.joined_chunks == num_joined > 0
    assert [warning for warning in summary.warnings if "JOINED: " in warning]
    assert (summary.latency.step_time_ms.count, summary.latency.itl_ms.count) == (0, 0)
    assert summary.latency.tpot_ms.count == len(records)
    assert summary.acceptance.source == "engine_request"
    assert summary.acceptance.cross_check is not None
    assert summary.acceptance.cross_check.difference.verify_steps == 0
    assert summary.acceptance.pooled.acceptance_length == pytest.approx(23 / 9)


def test_a_network_that_passes_no_more_bytes_ends_the_run_in_one_line(command_line: CommandLine) -> None:
    """The server itself goes on. About 3 kB pass of each reply, and little before the first."""
    network = Network(bytes_per_s=1_000_000, stalls_after=10_000)
    with serving("mock_completions", MOCK_MODEL="target") as direct, slow_network(direct, network) as url:
        outcome = measure(command_line, "vllm_server", url, "load.concurrency=1", "engine.stall_timeout_s=2")
    assert outcome.status == 1
    assert len(outcome.errors) == 1
    assert "gave no token for 2 s" in outcome.errors[0]
    records = measured(RunDirectory.open(command_line.folder / "run"))
    finished = [record for record in records if record.error is None]
    assert finished
    assert all([step.num_accepted for step in record.steps] == [0, *steps(24)] for record in finished)
