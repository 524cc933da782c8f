"""The sentences at the top of the page, on runs whose figures are known."""

import io
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from specdec_bench.archive.layout import RunDirectory
from specdec_bench.report.html.build import build_report
from specdec_bench.report.html.data import Report, Statement
from specdec_bench.report.html.details import read_details
from specdec_bench.report.sweep_table import print_sweep
from tests.helpers.archive_samples import make_prompt
from tests.helpers.made_archives import collected, plain, reply, write_run

PROMPTS = [make_prompt(number) for number in range(6)]
RECORDS = [reply(prompt, [2, 0, 3, number % 3]) for number, prompt in enumerate(PROMPTS)]


def report_of(folder: Path, runs: Sequence[RunDirectory]) -> Report:
    result, by_job = collected(runs)
    details = {job: read_details(run) for job, run in by_job.items()}
    return build_report(result, by_job, details, root=folder, kind="sweep")


def plain_run(folder: Path, replicate: int = 0, step_ms: float = 10.0) -> RunDirectory:
    records = [plain(record, step_ms=step_ms) for record in RECORDS]
    cell_id = "plain 1" if replicate == 0 else f"plain 1 {replicate}"
    return write_run(folder, records, PROMPTS, spec="none", replicate=replicate, cell_id=cell_id)


def texts(statements: Sequence[Statement]) -> list[str]:
    return [statement.text for statement in statements]


def test_a_run_alone_says_that_its_speedup_is_unknown(tmp_path: Path) -> None:
    verdict = report_of(tmp_path, [write_run(tmp_path / "0", RECORDS, PROMPTS)]).verdict
    (speed,) = verdict.speed
    assert speed.tone == "open"
    assert speed.text.startswith("ngram K=3 made ")
    assert "tokens per decode step" in speed.text
    assert speed.text.endswith("There is no plain run to compare with, so its speedup is unknown.")
    assert texts(verdict.output) == [
        "Whether the output is unchanged is unknown: no run can be compared with a plain one."
    ]


def test_single_runs_are_not_judged(tmp_path: Path) -> None:
    runs = [plain_run(tmp_path / "0"), write_run(tmp_path / "1", RECORDS, PROMPTS)]
    verdict = report_of(tmp_path, runs).verdict
    (speed,) = verdict.speed
    # A step of 10 ms gives one token by plain decoding, and on average 2.5 or so by drafts.
    assert speed.text.startswith(
        "At 1 in flight, which method is the fastest is not judged: single runs. The largest speedup measured is 2."
    )
    assert speed.text.endswith("of ngram K=3.")
    assert [(one.tone, one.text) for one in verdict.output] == [
        ("good", "The output is unchanged: every reply has the tokens of plain decoding (job 1).")
    ]
    assert any(text.startswith("Every cell was run once.") for text in texts(verdict.distrust))


def test_replicates_are_judged(tmp_path: Path) -> None:
    runs = [plain_run(tmp_path / f"plain {n}", n, step_ms=10 + n / 10) for n in range(3)]
    runs += [write_run(tmp_path / f"ngram {n}", RECORDS, PROMPTS, replicate=n) for n in range(3)]
    verdict = report_of(tmp_path, runs).verdict
    (speed,) = verdict.speed
    assert speed.tone == "result"
    assert speed.text.startswith("At 1 in flight, ngram K=3 is the fastest: 2.")
    assert "judged by 3 runs of each and corrected for 1 comparison." in speed.text


def test_changed_output_is_said(tmp_path: Path) -> None:
    changed = [reply(prompt, [2, 0, 3, 0], output_token_ids=(90,) * 9) for prompt in PROMPTS]
    runs = [plain_run(tmp_path / "0"), plain_run(tmp_path / "1", 1), write_run(tmp_path / "2", changed, PROMPTS)]
    report = report_of(tmp_path, runs)
    (output,) = report.verdict.output
    assert output.tone == "bad"
    assert "CHANGED" in output.text
    assert "at least 0.0% are identical" in output.text
    assert {excerpt.job for excerpt in report.excerpts} == {2}
    assert report.excerpts[0].position == 0
    assert (report.excerpts[0].baseline_text, report.excerpts[0].text) == ("ABCDEFGHIJ", "ZZZZZZZZZ")


def test_a_run_that_failed_and_one_of_no_model_are_distrusted(tmp_path: Path) -> None:
    runs = [
        plain_run(tmp_path / "0"),
        write_run(tmp_path / "1", RECORDS, PROMPTS, status="failed", error="the engine died"),
        write_run(tmp_path / "2", RECORDS, PROMPTS, draft_length=5, synthetic="no model was run"),
    ]
    found = texts(report_of(tmp_path, runs).verdict.distrust)
    assert "job 1: status failed: the engine died." in found
    assert "job 1: PARTIAL RUN: status failed." in found
    assert "job 2: SYNTHETIC: no model was run." in found


def test_runs_of_another_environment_are_not_compared(tmp_path: Path) -> None:
    runs = [plain_run(tmp_path / "0"), write_run(tmp_path / "1", RECORDS, PROMPTS, environment_id="other")]
    report = report_of(tmp_path, runs)
    assert any(
        "NOT COMPARED with the plain run: measured in another environment" in one.text
        for one in report.verdict.distrust
    )
    assert "speedup_tpot" not in report.cells[1].metrics


def test_a_speedup_over_another_model_runner_has_a_caveat(tmp_path: Path) -> None:
    runs = [
        write_run(tmp_path / "0", [plain(record) for record in RECORDS], PROMPTS, spec="none", engine={"runner": "V2"}),
        write_run(tmp_path / "1", RECORDS, PROMPTS, engine={"runner": "V1"}),
        write_run(tmp_path / "2", RECORDS, PROMPTS, draft_length=5, engine={"runner": "V2"}),
        write_run(tmp_path / "3", RECORDS, PROMPTS, draft_length=7),  # an archive that does not tell
    ]
    result, _ = collected(runs)
    caveat = "model runner V1 against V2: ratios of times hold the difference of the runners too"
    assert [row.get("speedup_caveat") for row in result.rows] == [None, caveat, None, None]
    assert [row["runner"] for row in result.rows] == ["V2", "V1", "V2", None]
    assert f"job 1: speedup by {caveat}." in texts(report_of(tmp_path, runs).verdict.distrust)
    shown = io.StringIO()
    print_sweep(result, Console(file=shown, width=200), path="sweep")
    assert f"speedup of job 1: {caveat}\n" in shown.getvalue()


def test_warnings_that_differ_in_numbers_alone_are_one(tmp_path: Path) -> None:
    config = {"dataset": {"name": "random"}}
    runs = [write_run(tmp_path / str(k), RECORDS, PROMPTS, draft_length=k, config=config) for k in (3, 4)]
    found = texts(report_of(tmp_path, runs).verdict.distrust)
    assert found.count("jobs 0, 1: dataset=random: acceptance on random text says little of real use.") == 1
