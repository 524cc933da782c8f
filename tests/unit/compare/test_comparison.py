"""Comparisons of archives that a person can add up."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from specdec_bench.archive.layout import RunDirectory
from specdec_bench.compare.comparison import CellComparison, Comparison, MetricComparison, compare
from specdec_bench.compare.effects import HEADLINE
from specdec_bench.compare.gates import column_of, parse_gate
from specdec_bench.compare.pairing import read_archive
from specdec_bench.errors import ConfigError
from specdec_bench.records.interval import Interval
from tests.helpers.archive_samples import CONFIG, make_prompt
from tests.helpers.made_archives import MS, plain, reply, write_run

PROMPTS = [make_prompt(0), make_prompt(1)]
FULL = [[3, 3], [3, 1]]
"""Accepted drafts by step of each prompt: 14 tokens after the prefill's in 4 steps."""
HALF = [[1, 1], [1, 1]]
"""8 tokens in 4 steps."""


def write(folder: Path, accepted: Sequence[Sequence[int]], replicate: int = 0, **changes: Any) -> RunDirectory:
    records = [reply(prompt, steps) for prompt, steps in zip(PROMPTS, accepted, strict=True)]
    return write_run(folder, records, PROMPTS, replicate=replicate, **changes)


def compared(one: Sequence[RunDirectory], other: Sequence[RunDirectory], *gates: str) -> Comparison:
    archives = [read_archive("A", one), read_archive("B", other)]
    return compare(archives, HEADLINE, [parse_gate(gate) for gate in gates])


def metric(cell: CellComparison, name: str) -> MetricComparison:
    return next(found for found in cell.metrics if found.metric == name)


def replicates(folder: Path, accepted: Sequence[Sequence[int]], count: int = 3, **changes: Any) -> list[RunDirectory]:
    return [write(folder / str(number), accepted, number, **changes) for number in range(count)]


def test_single_runs_have_ratios_and_no_verdict(tmp_path: Path) -> None:
    (cell,) = compared([write(tmp_path / "a", FULL)], [write(tmp_path / "b", HALF)]).cells
    length = metric(cell, "acceptance_length")
    assert (length.reference, length.value, length.ratio.value) == (14 / 4, 8 / 4, pytest.approx(8 / 14))
    assert (length.verdict, length.reason) == ("not judged", "1 and 1 runs, of at least 3 each")
    # Both conversations drawn twice give 4/8 and 4/6.
    assert (length.ratio.low, length.ratio.high) == (pytest.approx(4 / 8), pytest.approx(4 / 6))
    assert metric(cell, "acceptance_length_drafted").value == 1 + 4 / 4
    assert metric(cell, "draft_acceptance_rate").reference == 10 / 12


def test_a_median_lies_within_its_interval(tmp_path: Path) -> None:
    """Two turns each of two conversations take 10, 40, 20 and 30 ms to the first token, and 10, 40, 20 and 60 ms.

    The medians are 25 and 30 ms. The first conversation drawn twice gives 25 / 25, the second (20 + 60) / (20 + 30).
    """
    sides = []
    for name, delays_ms in (("a", (10, 40, 20, 30)), ("b", (10, 40, 20, 60))):
        asked = [(prompt, turn) for prompt in PROMPTS for turn in (0, 1)]
        records = [
            reply(prompt, [1], turn=turn, scheduled_ns=(100 - delay) * MS, sent_ns=(100 - delay) * MS)
            for (prompt, turn), delay in zip(asked, delays_ms, strict=True)
        ]
        sides.append([write_run(tmp_path / name, records, PROMPTS)])
    (cell,) = compared(*sides).cells
    ttft = metric(cell, "ttft_ms_p50")
    assert (ttft.reference, ttft.value, ttft.ratio.value) == (25, 30, pytest.approx(1.2))
    assert (ttft.ratio.low, ttft.ratio.high) == (pytest.approx(1), pytest.approx(1.6))


def test_three_runs_of_each_are_judged_as_one_family(tmp_path: Path) -> None:
    found = compared(replicates(tmp_path / "a", FULL), replicates(tmp_path / "b", FULL), "acceptance_length<-2%")
    (cell,) = found.cells
    assert (len(cell.reference_runs), len(cell.runs), found.num_judged) == (3, 3, len(cell.metrics))
    assert {judged.verdict for judged in cell.metrics} == {"no difference found"}
    assert {judged.p_value for judged in cell.metrics} == {1.0}
    assert (found.gates[0].failed, found.gates[0].not_judged) == ((), ())


def test_a_fall_of_every_conversation_fails_the_gate(tmp_path: Path) -> None:
    even = [[3, 3], [3, 3]]  # 4 tokens a step against 2, in both conversations
    found = compared(replicates(tmp_path / "a", even), replicates(tmp_path / "b", HALF), "acceptance_length<-2%")
    length = metric(found.cells[0], "acceptance_length")
    assert (length.verdict, length.ratio) == ("worse", Interval(value=0.5, low=0.5, high=0.5))
    assert found.gates[0].failed == ("ngram K=3, 1 in flight: -50.00% to -50.00%",)


def test_a_gate_on_single_runs_is_not_judged(tmp_path: Path) -> None:
    found = compared([write(tmp_path / "a", FULL)], [write(tmp_path / "b", HALF)], "acceptance_length<-2%")
    assert found.gates[0].not_judged == ("ngram K=3, 1 in flight: 1 and 1 runs, of at least 3 each",)


@pytest.mark.parametrize(
    ("changes", "reason", "is_speed_only"),
    [
        ({"dataset": {"sha256": "other"}}, "the prompts differ", False),
        ({"synthetic": "forced"}, "one of them is not of a real model (forced)", False),
        (
            {"config": {"sampling": {"temperature": 0.0, "top_k": 5}}},
            "the sampling differs (top_k: None, 5)",
            False,
        ),
        (
            {"imported": {"tool": "AIPerf", "file": "a.json", "sha256": "ab", "notes": []}},
            "imported from AIPerf, which does not",
            False,
        ),
        ({"concurrency": 2}, "the load differs (concurrency: 1, 2)", True),
    ],
)
def test_other_work_has_no_ratio(tmp_path: Path, changes: dict[str, Any], reason: str, is_speed_only: bool) -> None:
    (cell,) = compared([write(tmp_path / "a", FULL)], [write(tmp_path / "b", FULL, **changes)]).cells
    tpot, length = metric(cell, "tpot_ms_mean"), metric(cell, "acceptance_length")
    assert (tpot.ratio.value, tpot.reason is not None and tpot.reason.startswith(reason)) == (None, True)
    assert (length.ratio.value is None) == (not is_speed_only)
    assert length.reference == length.value == 14 / 4, "values are shown all the same"


def test_the_same_prompts_sent_as_other_tokens_have_no_ratio(tmp_path: Path) -> None:
    records = [reply(prompt, steps, prompt_token_ids=(9, 9)) for prompt, steps in zip(PROMPTS, FULL, strict=True)]
    (cell,) = compared([write(tmp_path / "a", FULL)], [write_run(tmp_path / "b", records, PROMPTS)]).cells
    assert cell.outputs is None
    assert all(found.ratio.value is None for found in cell.metrics)


def test_plain_decoding_is_compared_where_both_have_a_value(tmp_path: Path) -> None:
    records = [plain(reply(prompt, steps)) for prompt, steps in zip(PROMPTS, FULL, strict=True)]
    (cell,) = compared([write_run(tmp_path / "a", records, PROMPTS, spec="none")], [write(tmp_path / "b", FULL)]).cells
    assert cell.name == "ngram K=3, 1 in flight against none, 1 in flight"
    length, rate = metric(cell, "acceptance_length"), metric(cell, "draft_acceptance_rate")
    assert (length.reference, length.value) == (1.0, 3.5)
    assert (rate.reference, rate.value, rate.reason) == (None, 10 / 12, "undefined on one side")
    assert cell.outputs is not None
    assert (cell.outputs.num_identical, cell.outputs.num_compared) == (2, 2)


def test_cells_of_sweeps_are_matched_by_what_varies(tmp_path: Path) -> None:
    one = [write(tmp_path / "a1", FULL, draft_length=3), write(tmp_path / "a5", FULL, draft_length=5)]
    other = [write(tmp_path / "b5", HALF, draft_length=5), write(tmp_path / "b7", HALF, draft_length=7)]
    found = compared(one, other, "acceptance_length<-2%")
    assert [cell.name for cell in found.cells] == ["ngram K=5, 1 in flight"]
    assert [(cell.name, cell.is_missing) for cell in found.unmatched] == [
        ("ngram K=3, 1 in flight", True),
        ("ngram K=7, 1 in flight", False),
    ]
    assert "ngram K=3, 1 in flight: the archive lacks this cell" in found.gates[0].not_judged


def test_between_engines_the_last_verify_step_is_left_out(tmp_path: Path) -> None:
    changes = {"config": {"engine": {"name": "vllm"}}}
    (cell,) = compared([write(tmp_path / "a", FULL)], [write(tmp_path / "b", FULL, **changes)]).cells
    # Of each prompt only the first step is left, which accepted 3 of 3.
    assert metric(cell, "acceptance_length_drafted").value == 4.0
    assert metric(cell, "draft_acceptance_rate").reference == 1.0
    assert metric(cell, "acceptance_length").value == 14 / 4
    assert any("last verify step" in note for note in cell.notes)


def test_fields_that_differ_are_named_with_all_values(tmp_path: Path) -> None:
    changes = {"environment": {"packages": {"vllm": "0.32"}}, "environment_id": "f"}
    found = compared([write(tmp_path / "a", FULL)], [write(tmp_path / "b", FULL, draft_length=5, **changes)])
    told = {(item.section, item.field): item.values for item in found.differences}
    assert told[("configuration", "spec.draft_length")] == ((3,), (5,))
    assert told[("environment", "packages.vllm")] == ((), ("0.32",))
    assert CONFIG["spec"]["draft_length"] == 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("acceptance_length<-2", "give METRIC"),
        ("acceptance_length=-2%", "give METRIC"),
        ("nothing<-2%", "no metric nothing"),
        ("tpot_ms<5%", "nothing changed"),
        ("tpot_ms>-5%", "nothing changed"),
        ("output_tps<-100%", "give less"),
    ],
)
def test_a_condition_that_makes_no_sense_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ConfigError, match=reason):
        parse_gate(text)


def test_the_whole_interval_must_lie_beyond_the_limit() -> None:
    fall, rise = parse_gate("acceptance_length < -2%"), parse_gate("tpot_ms>5%")
    assert (fall.metric, fall.limit, rise.metric, rise.limit) == ("acceptance_length", 0.98, "tpot_ms_mean", 1.05)
    assert fall.is_beyond(Interval(value=0.9, low=0.85, high=0.97))
    assert not fall.is_beyond(Interval(value=0.9, low=0.85, high=0.99))
    assert not fall.is_beyond(Interval(value=0.9))
    assert rise.is_beyond(Interval(value=1.2, low=1.06, high=1.4))
    assert not rise.is_beyond(Interval(value=1.2, low=1.04, high=1.4))
    assert column_of("ttft_ms") == "ttft_ms_p50"


def test_another_model_runner_is_noted(tmp_path: Path) -> None:
    one, same, other = (
        [write(tmp_path / name, FULL, engine={"runner": runner})]
        for name, runner in (("a", "V1"), ("b", "V1"), ("c", "V2"))
    )
    (cell,) = compared(one, other).cells
    assert "model runner V2 against V1: ratios of times hold the difference of the runners too" in cell.notes
    (cell,) = compared(one, same).cells
    assert not any("runner" in note for note in cell.notes)
