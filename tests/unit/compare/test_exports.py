"""Exports of cells whose acceptance a person can add up: above all, what counts the bonus token and what does not."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from specdec_bench.archive.layout import RunDirectory
from specdec_bench.compare.exports.golden import golden_lengths
from specdec_bench.compare.exports.injection import sglang_settings, vllm_settings
from specdec_bench.compare.exports.measured import MeasuredAcceptance, measure
from specdec_bench.compare.exports.profile import speculation_profile
from specdec_bench.compare.pairing import ArchivedCell, read_archive
from specdec_bench.errors import ArchiveInputError
from specdec_bench.records.checkpoint import Checkpoint
from specdec_bench.records.request import AcceptanceCounters, Step
from tests.helpers.archive_samples import make_prompt
from tests.helpers.made_archives import MS, reply, steps_of, write_run

TEN_STEPS = ((3, 3, 2, 2, 2), (1, 1, 1, 0, 0))
"""15 accepted drafts in 10 steps of 3: 8 steps accept at least one, 5 at least two, 2 all three."""


def cell_of(*runs: RunDirectory, **spec: Any) -> ArchivedCell:
    """Returns the one cell of these runs, with other settings of its method."""
    (cell,) = read_archive("archive", runs).cells
    if not spec:
        return cell
    manifests = [
        msgspec.structs.replace(found, config=found.config | {"spec": found.config["spec"] | spec})
        for found in cell.manifests
    ]
    return ArchivedCell(fields=cell.fields, runs=cell.runs, manifests=manifests)


def run_of(folder: Path, replies: Sequence[Sequence[int]] = TEN_STEPS, **changes: Any) -> RunDirectory:
    """Writes a run with one reply for each prompt."""
    prompts = [make_prompt(number) for number in range(len(replies))]
    records = [reply(prompt, accepted) for prompt, accepted in zip(prompts, replies, strict=True)]
    return write_run(folder, records, prompts, **changes)


def measured(folder: Path, *steps: tuple[int | None, int], **request: Any) -> MeasuredAcceptance:
    """Returns the acceptance of one reply, whose steps proposed and accepted these drafts."""
    made = [Step(received_ns=100 * MS, num_tokens=1, num_proposed=0, num_accepted=0)]
    for number, (proposed, accepted) in enumerate(steps, start=1):
        at = (100 + 10 * number) * MS
        made.append(Step(received_ns=at, num_tokens=accepted + 1, num_proposed=proposed, num_accepted=accepted))
    record = reply(make_prompt(0), (), steps=tuple(made), **request)
    return measure(cell_of(write_run(folder, [record], [make_prompt(0)])))


# ---------------------------------------------------------------- with the bonus token, or without


def test_ten_steps_with_fifteen_accepted_drafts_have_length_two_and_a_half(tmp_path: Path) -> None:
    found = measure(cell_of(run_of(tmp_path / "run")))
    assert found.length.value == 2.5
    assert json.loads(vllm_settings(found)) == {
        "num_speculative_tokens": 3,
        "rejection_sample_method": "synthetic",
        "synthetic_acceptance_rates": pytest.approx([0.8, 0.5, 0.2]),
    }
    variables = dict(line.split("=") for line in sglang_settings(found).splitlines())
    assert float(variables.pop("SGLANG_SIMULATE_ACC_LEN")) == pytest.approx(2.5)
    assert variables == {
        "SGLANG_SIMULATE_ACC_METHOD": "match-expected",
        "SGLANG_SIMULATE_ACC_TOKEN_MODE": "real-draft-token",
    }
    assert yaml.safe_load(golden_lengths([found]))["tiny"] == {"thinking_default": {3: 2.5}}


def test_the_profile_has_both_kinds_of_rates_and_lengths_with_the_bonus_token(tmp_path: Path) -> None:
    found = json.loads(speculation_profile(measure(cell_of(run_of(tmp_path / "run")))))
    assert found["marginal_accept_rates"] == pytest.approx([0.8, 0.5, 0.2])
    assert found["conditional_accept_rates"] == pytest.approx([8 / 10, 5 / 8, 2 / 5])
    assert found["mean_accept_length"] == 1 + sum([8, 5, 2]) / 10
    assert found["mean_accept_length_per_request"] == pytest.approx((1 + 12 / 5 + 1 + 3 / 5) / 2)
    assert found["acceptance_length_histogram"] == {"1": 2, "2": 3, "3": 3, "4": 2}
    assert found["accept_length_by_k"] == {"3": 2.5}
    assert found["per_category"] == {"writing": {"mean_accept_length": 2.5, "num_verify_steps": 10}}
    assert found["validation"]["mean_consistency"]["passed"] is True
    low, high = found["mean_accept_length_interval_95"]
    assert 1 + 3 / 5 <= low < 2.5 < high <= 1 + 12 / 5  # between the lengths of the two replies
    assert (found["schema_version"], found["measured"]) == ("specdec_bench/1", True)


def test_a_position_that_was_never_reached_is_null_and_no_zero(tmp_path: Path) -> None:
    found = measure(cell_of(run_of(tmp_path / "run", [(0, 1), (1, 1)])))
    profile = json.loads(speculation_profile(found))
    assert profile["marginal_accept_rates"] == [0.75, 0.0, 0.0]
    assert profile["conditional_accept_rates"] == [0.75, 0.0, None]
    assert json.loads(vllm_settings(found))["synthetic_acceptance_rates"] == [0.75, 0.0, 0.0]


def test_a_synthetic_run_is_no_measurement(tmp_path: Path) -> None:
    found = measure(cell_of(run_of(tmp_path / "run", synthetic="no model was run")))
    profile = json.loads(speculation_profile(found))
    assert (profile["measured"], profile["synthetic"]) == (False, "no model was run")
    assert yaml.safe_load(golden_lengths([found]))["_metadata"]["synthetic"] == ["no model was run"]


def test_a_published_profile_does_not_say_where_checkpoints_lie(tmp_path: Path) -> None:
    checkpoints = {
        "target": Checkpoint(path="/home/user/secret/llama", revision=None, commit=None, fingerprint="f", files={}),
        "draft": Checkpoint(path="org/draft", revision="main", commit="c0ffee", fingerprint="g", files={}),
    }
    found = measure(cell_of(run_of(tmp_path / "run", checkpoints=checkpoints)))
    profile = json.loads(speculation_profile(found))
    assert profile["target_model"] == {"name": "llama", "revision": None, "fingerprint": "f"}
    assert profile["draft_checkpoint"] == {"name": "org/draft", "revision": "c0ffee", "fingerprint": "g"}


# ---------------------------------------------------------------- which drafts were proposed


def test_a_cut_step_says_nothing_of_the_positions_that_it_did_not_propose(tmp_path: Path) -> None:
    """Two steps accept all of 3, the last all of 1: pooled 1 + 7/3; an engine that accepts everything has 4."""
    found = measured(tmp_path / "run", (3, 3), (3, 3), (1, 1))
    assert found.length.value == pytest.approx(1 + 7 / 3)
    assert found.joint_rates() == [1.0, 1.0, 1.0]
    assert sglang_settings(found).startswith("SGLANG_SIMULATE_ACC_LEN=4.0\n")
    assert json.loads(speculation_profile(found))["marginal_accept_rates"] == pytest.approx([1, 2 / 3, 2 / 3])


def test_rates_where_proposed_by_hand(tmp_path: Path) -> None:
    """Position 1: 4 of 5. Position 2: proposed after an accepted first in 3 steps, 2 of 3. Position 3: 1 of 2."""
    found = measured(tmp_path / "run", (3, 3), (3, 2), (3, 1), (3, 0), (1, 1), (0, 0))
    assert found.rates_where_proposed == pytest.approx([4 / 5, 2 / 3, 1 / 2])
    assert found.joint_rates() == pytest.approx([4 / 5, 8 / 15, 4 / 15])
    assert found.pooled.verify_steps == 5


def test_a_position_that_was_never_proposed_has_no_rate(tmp_path: Path) -> None:
    found = measured(tmp_path / "run", (2, 2), (2, 1))
    for settings in (vllm_settings, sglang_settings):
        with pytest.raises(ArchiveInputError, match=r"no draft was proposed at position 3 of spec\.draft_length=3"):
            settings(found)
    assert json.loads(speculation_profile(found))["mean_accept_length"] == 2.5


def test_where_proposals_are_unknown_each_verify_step_is_taken_for_a_whole_one(tmp_path: Path) -> None:
    counters = AcceptanceCounters(num_verify_steps=4, num_accepted=6, histogram=(1, 1, 1, 1))
    found = measured(tmp_path / "run", (None, 3), (None, 2), (None, 1), (None, 0), counters=counters)
    assert found.joint_rates() == pytest.approx([3 / 4, 2 / 4, 1 / 4])


def test_a_tree_emits_fixed_tokens_and_its_nodes_are_no_positions(tmp_path: Path) -> None:
    found = measure(cell_of(run_of(tmp_path / "run"), topk=4, num_draft_tokens=8))
    assert "SGLANG_SIMULATE_ACC_TOKEN_MODE=fixed\n" in sglang_settings(found)
    assert found.joint_rates() == pytest.approx([0.8, 0.5, 0.2])


# ---------------------------------------------------------------- several runs, totals, and what is refused


def test_runs_of_a_cell_are_summed_and_widen_the_interval(tmp_path: Path) -> None:
    runs = [
        run_of(tmp_path / str(number), replies, replicate=number)
        for number, replies in enumerate([TEN_STEPS, ((3, 3, 3, 3, 3), (3, 3, 3, 3, 3))])
    ]
    both, one = measure(cell_of(*runs)), measure(cell_of(runs[0]))
    assert both.length.value == 1 + (15 + 30) / 20
    assert both.joint_rates() == pytest.approx([18 / 20, 15 / 20, 12 / 20])
    assert json.loads(speculation_profile(both))["measurement_conditions"]["num_runs"] == 2
    assert None not in (both.length.low, both.length.high, one.length.low, one.length.high)
    assert both.length.high / both.length.low > one.length.high / one.length.low  # type: ignore[operator]


TOTALS = AcceptanceCounters(num_verify_steps=10, num_accepted=15, num_proposed=30)


def total_run(folder: Path, totals: AcceptanceCounters | None) -> RunDirectory:
    """Writes a run whose engine counted no single request."""
    chunks = tuple(Step(received_ns=number * MS, num_tokens=1) for number in range(1, 5))
    record = reply(make_prompt(0), (), steps=chunks, acceptance_source="engine_total")
    return write_run(folder, [record], [make_prompt(0)], engine_totals=totals)


def test_totals_by_position_are_exported_without_what_they_do_not_tell(tmp_path: Path) -> None:
    totals = msgspec.structs.replace(TOTALS, histogram=(2, 3, 3, 2))
    found = measure(cell_of(total_run(tmp_path / "run", totals)))
    assert json.loads(vllm_settings(found))["synthetic_acceptance_rates"] == pytest.approx([0.8, 0.5, 0.2])
    profile = json.loads(speculation_profile(found))
    assert profile["mean_accept_length"] == 2.5
    assert profile["mean_accept_length_interval_95"] == [None, None]
    assert profile["mean_accept_length_per_request"] is None
    assert profile["per_category"] is None


def test_totals_without_positions_are_a_length_alone(tmp_path: Path) -> None:
    found = measure(cell_of(total_run(tmp_path / "run", TOTALS)))
    assert yaml.safe_load(golden_lengths([found]))["tiny"] == {"thinking_default": {3: 2.5}}
    for export in (vllm_settings, sglang_settings, speculation_profile):
        with pytest.raises(ArchiveInputError, match=r"acceptance by position is unknown.*engine_total"):
            export(found)


def test_missing_totals_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveInputError, match="totals are missing"):
        measure(cell_of(total_run(tmp_path / "run", None)))


def test_counts_from_a_stream_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveInputError, match="from the stream, an upper bound"):
        measured(tmp_path / "run", (3, 3), acceptance_source="stream")


def test_plain_decoding_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveInputError, match="drafts nothing"):
        measure(cell_of(run_of(tmp_path / "run", spec="none")))


def test_an_unknown_draft_length_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveInputError, match="does not say its draft length"):
        measure(cell_of(run_of(tmp_path / "run"), draft_length=None))


def test_a_draft_length_that_followed_the_batch_is_refused(tmp_path: Path) -> None:
    rows = [[1, 4, 3], [5, 16, 1]]
    with pytest.raises(ArchiveInputError, match=r"followed the batch size.*without spec\.draft_length_by_batch_size"):
        measure(cell_of(run_of(tmp_path / "run"), draft_length=3, draft_length_by_batch_size=rows))


def test_a_run_without_a_verify_step_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveInputError, match="no verify step"):
        measured(tmp_path / "run", (0, 0))


def test_a_method_whose_engine_counted_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ArchiveInputError, match="not counted"):
        measured(tmp_path / "run", (3, 1), acceptance_source=None)


def test_counts_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    totals = msgspec.structs.replace(TOTALS, histogram=(2, 3, 3, 1))
    with pytest.raises(ArchiveInputError, match="10 verify steps with 15 accepted drafts, but 9 with 12 by position"):
        measure(cell_of(total_run(tmp_path / "run", totals)))


# ---------------------------------------------------------------- golden lengths


def model(name: str, thinking: object = None) -> dict[str, Any]:
    return {"model": {"name": name, "chat_template_kwargs": {} if thinking is None else {"enable_thinking": thinking}}}


def golden_of(folder: Path, *cells: dict[str, Any]) -> dict[str, Any]:
    """Returns the golden lengths of cells that were made with these changes."""
    runs = []
    for number, changes in enumerate(cells):
        accepted = [min(count, changes.get("draft_length", 3)) for count in TEN_STEPS[0]]
        steps = steps_of(accepted, draft_length=changes.get("draft_length", 3))
        records = [reply(make_prompt(0), (), steps=steps)]
        runs.append(write_run(folder / str(number), records, [make_prompt(0)], **changes))
    found: dict[str, Any] = yaml.safe_load(
        golden_lengths([measure(cell) for cell in read_archive(str(folder), runs).cells])
    )
    return found


def test_golden_lengths_lie_by_model_thinking_and_draft_length(tmp_path: Path) -> None:
    found = golden_of(
        tmp_path,
        {"draft_length": 2, "config": model("a", True)},
        {"draft_length": 1, "config": model("a", True)},
        {"draft_length": 1, "config": model("a", False)},
        {"draft_length": 3, "config": model("b")},
    )
    metadata = found.pop("_metadata")
    assert found == {
        "a": {"thinking_on": {1: 2.0, 2: 3.0}, "thinking_off": {1: 2.0}},
        "b": {"thinking_default": {3: pytest.approx(1 + 12 / 5)}},
    }
    assert metadata["interval_95"]["b"] == {"thinking_default": {3: [None, None]}}  # one conversation tells none
    assert metadata["definition"].startswith("1 + accepted / verify steps; the bonus token")


def test_golden_lengths_have_the_intervals(tmp_path: Path) -> None:
    found = measure(cell_of(run_of(tmp_path / "run")))
    intervals = yaml.safe_load(golden_lengths([found]))["_metadata"]["interval_95"]
    assert intervals == {"tiny": {"thinking_default": {3: [found.length.low, found.length.high]}}}
    assert found.length.low is not None


@pytest.mark.parametrize("changes", [{"spec": "eagle3", "draft_length": 1}, {"concurrency": 4, "draft_length": 1}])
def test_points_of_different_curves_are_no_curve(tmp_path: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(ArchiveInputError, match=r"(spec\.name|load\.concurrency): the cells have"):
        golden_of(tmp_path, {}, changes)


@pytest.mark.parametrize(("word", "place"), [("disabled", "thinking_off"), ("Enabled", "thinking_on")])
def test_thinking_may_be_switched_by_words(tmp_path: Path, word: str, place: str) -> None:
    assert list(golden_of(tmp_path, {"config": model("a", word)})["a"]) == [place]
