"""The search for capacity, on an engine of fixed times behind a limit: what its highest rate is can be computed."""

import csv
import json
import shutil
from pathlib import Path

import pytest

from tests.helpers.command_line import CommandLine, Outcome, read_json

SLOTS = 2
PLAIN_S = 0.020 + 8 * 0.005
"""The first token and 8 steps of one token: 9 tokens."""
DRAFTED_S = 0.020 + 2 * 0.005
"""The first token and 2 steps of 4 tokens: all of 3 drafts are accepted."""


def search(command_line: CommandLine, *overrides: str, folder: str = "found") -> Outcome:
    prompts = command_line.folder / "one_turn.jsonl"
    lines = (json.dumps({"prompt_id": f"p{number}", "turns": [f"number {number}"]}) + "\n" for number in range(8))
    prompts.write_text("".join(lines), encoding="utf-8")
    return command_line(
        "capacity",
        *("engine=synthetic", "engine.ttft_ms=20", "engine.step_time_ms=5", "engine.acceptance_rates=[1.0]"),
        *("dataset=jsonl", f"dataset.path={prompts}", "sampling.max_new_tokens=9", "spec=ngram"),
        *("load=constant", "load.rate=12", f"load.max_in_flight={SLOTS}", "load.num_warmup=0"),
        *("capacity.min_duration_s=0.5", "capacity.min_requests=24", "capacity.tolerance=1"),
        f"hydra.sweep.dir={folder}",
        *(overrides or ("slo.e2e_ms=2000",)),
    )


def runs(folder: Path) -> set[str]:
    return {path.name for path in (folder / "probes").iterdir()}


def test_the_highest_rate_is_that_of_the_slots(command_line: CommandLine) -> None:
    """Two slots of 60 ms hold 33 requests a second, of 30 ms 67. A busy machine is slower, never faster."""
    outcome = search(command_line)
    assert (outcome.status, outcome.stderr) == (0, "")
    folder = command_line.folder / "found"
    result = read_json(folder / "capacity.json")
    drafted, plain = result["sides"]
    assert [drafted["method"], plain["method"]] == ["ngram", "none"]
    for side, service_s in ((drafted, DRAFTED_S), (plain, PLAIN_S)):
        passed, failed = side["bracket"]["passed"], side["bracket"]["failed"]
        assert passed < failed <= 2 * passed
        # A backlog of two requests a run does not count as growing: 12 are due between the quarters that are compared.
        assert passed <= SLOTS / service_s * 12 / (12 - 3)
        assert side["capacity"]["low"] <= side["capacity"]["value"] <= side["capacity"]["high"]
        assert [probe["passed"] for probe in side["probes"]] == sorted(
            (p["passed"] for p in side["probes"]), reverse=True
        )
    ratio = result["ratio"]
    assert ratio["value"] == pytest.approx(drafted["capacity"]["value"] / plain["capacity"]["value"])
    assert ratio["low"] < ratio["value"] < ratio["high"]
    assert result["status"] == "finished"
    assert result["is_below_default"] is True
    assert "SHORT PROBES: 0.5 s and 24 requests" in outcome.stdout
    assert "capacity under this SLO" in outcome.stdout
    rows = list(csv.DictReader((folder / "probes.csv").read_text(encoding="utf-8").splitlines()))
    assert sum(len(row["runs"].split()) for row in rows) == len(runs(folder)) == 3 * len(rows)
    first = read_json(folder / rows[0]["runs"].split()[0] / "manifest.json")
    assert (first["status"], first["config"]["load"]["num_conversations"]) == ("finished", 24)

    # The same command again runs what is missing.
    before = runs(folder)
    shutil.rmtree(folder / rows[0]["runs"].split()[0])
    began = {name: (folder / "probes" / name / "manifest.json").stat().st_mtime_ns for name in runs(folder)}
    again = search(command_line)
    assert (again.status, again.stderr) == (0, "")
    assert {name for name in runs(folder) if name not in began} == before - began.keys()
    assert all((folder / "probes" / name / "manifest.json").stat().st_mtime_ns == at for name, at in began.items())


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (("load=constant",), "slo: states no objective"),
        (("slo.e2e_ms=9", "load=closed", "load.concurrency=1"), "load.rate"),
        (("slo.e2e_ms=9", "spec=none"), "spec=none: plain decoding is always searched"),
        (("slo.e2e_ms=9", "load.duration_s=5"), "load.duration_s=5.0: the search says how many"),
        (("slo.e2e_ms=9", "baseline=auto"), "baseline=auto: belongs to a sweep"),
        (("slo.e2e_ms=9", "capacity.num_seeds=2"), "capacity.num_seeds=2: must be at least 3"),
        (("slo.e2e_ms=9", "-m"), "takes overrides"),
    ],
)
def test_what_cannot_be_searched_is_refused(command_line: CommandLine, overrides: tuple[str, ...], words: str) -> None:
    outcome = search(command_line, *overrides, folder="refused")
    assert outcome.status == 2
    assert words in outcome.error
    assert not (command_line.folder / "refused").exists()


def test_a_folder_of_other_things_is_left_alone(command_line: CommandLine) -> None:
    (command_line.folder / "taken" / "thesis").mkdir(parents=True)
    outcome = search(command_line, "slo.e2e_ms=9", folder="taken")
    assert (outcome.status, "holds thesis already" in outcome.error) == (2, True)
