"""What is printed or opened in a spreadsheet does nothing but show; and nobody has to read it."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from specdec_bench.cli.main import main
from tests.helpers.command_line import ROOT, TIMEOUT_S, CommandLine, Outcome, read_json

EVIL = "a\x1b[31mred\x1b[0m\u202eevil\u2066[bold]m[/bold]\x07\x9b31m"
SPELT = r"a\x1b[31mred\x1b[0m\u202eevil\u2066[bold]m[/bold]\x07\x9b31m"
FORMULA = "=cmd|'/c calc'!A1"
CATEGORIES = [FORMULA, "_hidden", "cost $\\over$", 'a/b,"c"\nd', EVIL]


def is_inert(text: str) -> bool:
    return all(line.isprintable() for line in text.split("\n"))


@pytest.fixture
def evil(command_line: CommandLine) -> list[str]:
    """An experiment on a file whose ids, categories and prompts are as odd as they can be."""
    lines = [
        json.dumps({"prompt_id": f"{index}{EVIL}", "category": category, "prompt": f"hi {EVIL}"})
        for index, category in enumerate(CATEGORIES)
    ]
    (command_line.folder / "evil.jsonl").write_text("\n".join(lines))
    return ["engine=synthetic", "spec=ngram", "dataset=jsonl", "dataset.path=evil.jsonl", "sampling.max_new_tokens=4"]


def quoted(text: str) -> str:
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def test_tables_on_the_terminal_and_for_spreadsheets(command_line: CommandLine, evil: list[str]) -> None:
    names = [EVIL, FORMULA, "@SUM(1)", "-1.5", "+1", "-x", "\tx"]
    given = ",".join(map(quoted, names))
    outcome = command_line("-m", *evil, f"+model.chat_template_kwargs.x={given}", "hydra.sweep.dir=sweep")
    assert outcome.status == 0, outcome.stderr
    assert is_inert(outcome.stdout), [line for line in outcome.stdout.split("\n") if not line.isprintable()]
    assert "[bold]m[/bold]" in outcome.stdout
    assert r"a\x1b[31mred" in outcome.stdout

    raw = pd.read_parquet(command_line.folder / "sweep" / "sweep.parquet")
    assert list(raw["model.chat_template_kwargs.x"]) == names
    text = (command_line.folder / "sweep" / "sweep.csv").read_text()
    assert is_inert(text)
    rows = list(csv.DictReader(text.splitlines()))
    values = [row["model.chat_template_kwargs.x"] for row in rows]
    assert values == [SPELT, f"'{FORMULA}", "'@SUM(1)", "-1.5", "+1", "'-x", r"'\tx"]
    for row in rows:
        assert float(row["tpot_ms_mean"]) > 0
        assert not [value for value in row.values() if value.startswith(("=", "@", "\t"))]


def refused(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> Outcome:
    """Returns what the command line says in this process."""
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    printed = capsys.readouterr()
    status = exit_.value.code
    assert isinstance(status, int)
    return Outcome(status, printed.out, printed.err)


@pytest.mark.parametrize(
    "arguments",
    [
        [f"spec={EVIL}"],
        [f"spec={quoted(EVIL)}"],
        [f"spec.{EVIL}=1"],
        [f"spec.draft_length={quoted(EVIL)}"],
        [f"model.path={quoted(EVIL)}"],
        [f"dataset=jsonl dataset.path={quoted(EVIL)}"],
        ["dataset=jsonl", f"dataset.path={quoted(EVIL)}"],
        [f"+engine.{EVIL}=1"],
        [f"--{EVIL}"],
        [f"--config-dir={EVIL}"],
        [f"resume={EVIL}"],
        [f"baseline={quoted(EVIL)}", "-m"],
        ["replay", EVIL],
        ["summarize", EVIL],
        ["check", EVIL],
        ["check", "x", EVIL],
        ["prepare", EVIL],
        ["prepare", "jsonl", f"dataset.path={EVIL}"],
        ["prepare", "jsonl", "x\ny"],
        ["spec=\udcff"],
        ["dataset=jsonl", "dataset.path=x\r\nerror: forged"],
    ],
)
def test_errors(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["run.py"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    outcome = refused(capsys, arguments)
    assert outcome.status in (1, 2)
    assert outcome.stdout == ""
    assert outcome.stderr == outcome.error + "\n"
    assert outcome.error.isprintable()


@pytest.mark.parametrize("flags", [["--cfg", "job"], ["--help"], ["--info", "config"]])
def test_what_hydra_prints(command_line: CommandLine, flags: list[str]) -> None:
    outcome = command_line(*flags, f"model.name={quoted(EVIL)}")
    assert outcome.status == 0, outcome.stderr
    assert is_inert(outcome.stdout + outcome.stderr)


def test_an_odd_yaml_of_the_user_s_own(command_line: CommandLine) -> None:
    (command_line.folder / "own" / "experiment").mkdir(parents=True)
    (command_line.folder / "own" / "experiment" / "bad.yaml").write_text("# @package _global_\na: \x1b[31m\n")
    outcome = command_line(*command_line.experiment, "--config-dir=own", "experiment=bad")
    assert outcome.status in (1, 2)
    assert is_inert(outcome.stdout + outcome.stderr)


# ---------------------------------------------------------------- nobody reads it


def shell(command_line: CommandLine, redirection: str, *arguments: str, **environment: str) -> Outcome:
    """Returns how run.py ended whose streams a shell has redirected."""
    done = subprocess.run(
        [
            "bash",
            "-c",
            f'{{ "$@"; echo "$?" >status; }} {redirection}',
            "run",
            sys.executable,
            ROOT / "run.py",
            *arguments,
        ],
        cwd=command_line.folder,
        env={**command_line.environment, **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=TIMEOUT_S,
    )
    status = int((command_line.folder / "status").read_text())
    assert "Traceback" not in done.stderr
    return Outcome(status, done.stdout, done.stderr)


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-", "| head -1", "2>&1 | true"])
def test_a_run_whose_reader_goes_away(command_line: CommandLine, redirection: str) -> None:
    outcome = shell(command_line, redirection, *command_line.experiment, "hydra.run.dir=run")
    assert (outcome.status, outcome.stderr) == (0, "")
    assert len(outcome.stdout.splitlines()) == (0 if "head" not in redirection and ">&-" in redirection else 1) or (
        redirection in ("2>&-", "2>&1 | true")
    )
    assert read_json(command_line.folder / "run" / "manifest.json")["status"] == "finished"
    # Nothing that was meant for the terminal went into a file that was opened in its place.
    assert {path.name for path in (command_line.folder / "run").iterdir()} >= {"summary.json", "responses.jsonl"}
    for line in (command_line.folder / "run" / "requests.jsonl").read_text().splitlines():
        json.loads(line)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--hydra-help"],
        ["--cfg", "job"],
        ["-m", "engine=synthetic", "spec=none,ngram", "dataset.num_prompts=2", "hydra.sweep.dir=sweep"],
        ["summarize", "copy"],
        ["replay", "copy", "--output", "replayed"],
        ["prepare", "demo", "--licence", "x"],
        ["prepare", "--help"],
    ],
)
def test_whatever_is_piped_into_head(command_line: CommandLine, finished_run: Path, arguments: list[str]) -> None:
    subprocess.run(["cp", "-r", finished_run, command_line.folder / "copy"], check=True)
    outcome = shell(command_line, "| head -1", *arguments)
    assert (outcome.status, outcome.stderr) == (0, "")
    assert len(outcome.stdout.splitlines()) == 1


def test_an_error_that_nobody_reads_still_has_its_status(command_line: CommandLine) -> None:
    assert shell(command_line, ">&- 2>&-", "spec=nothing").status == 2


def test_ascii(command_line: CommandLine, evil: list[str]) -> None:
    outcome = command_line(*evil, "model.name='Käse≥'", "hydra.run.dir=run", PYTHONIOENCODING="ascii", LC_ALL="C")
    assert (outcome.status, outcome.stderr) == (0, "")
    assert outcome.stdout.isascii()
    assert r"\ud83d" not in outcome.stdout
    assert "+---" in outcome.stdout
    error = command_line("spec='Käse'", PYTHONIOENCODING="ascii", LC_ALL="C")
    assert error.status == 2
    assert r"K\xe4se" in error.error


@pytest.mark.parametrize("columns", ["20", "1", "0", "x"])
def test_a_narrow_terminal(command_line: CommandLine, evil: list[str], columns: str) -> None:
    outcome = command_line(*evil, "hydra.run.dir=run", COLUMNS=columns)
    assert (outcome.status, outcome.stderr) == (0, "")
    # No number is cut: 5 requests of 4 tokens.
    assert "requests" in outcome.stdout
    assert "tokens/s" in outcome.stdout


def test_a_full_disk_behind_stdout_is_said(command_line: CommandLine) -> None:
    outcome = shell(command_line, ">/dev/full", *command_line.experiment, "hydra.run.dir=run")
    assert outcome.status == 0
    assert outcome.stderr == "warning: what was printed is not complete: No space left on device\n"
