"""Exit statuses of `replay`, `summarize`, `check` and `prepare`: 2 for what the user gave, 1 for what failed."""

import csv
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from specdec_bench.cli.main import main
from specdec_bench.errors import ArchiveError, ArchiveInputError
from specdec_bench.records.request import SCHEMA_VERSION

ON_RUNS = ("replay", "summarize", "check", "report")


@dataclass
class Shell:
    """The command line in this process, in an empty folder."""

    folder: Path
    capture: pytest.CaptureFixture[str]

    def __call__(self, *arguments: str | Path) -> tuple[int, str, str]:
        """Returns exit status, stdout and stderr."""
        with pytest.raises(SystemExit) as ended:
            main(list(map(str, arguments)))
        out, err = self.capture.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, out, err

    def refused(self, *arguments: str | Path) -> str:
        """Returns the one line with which bad input is refused."""
        status, out, err = self(*arguments)
        assert (status, out) == (2, ""), (out, err)
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert "Traceback" not in err
        return err


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Shell:
    folder = tmp_path / "cwd"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return Shell(folder, capsys)


@pytest.fixture
def archived(shell: Shell, finished_run: Path) -> Path:
    """A copy of a finished run that may be damaged."""
    return Path(shutil.copytree(finished_run, shell.folder / "archived"))


# ---------------------------------------------------------------- what is no run


def named_folders(shell: Shell) -> dict[str, str]:
    (shell.folder / "file").write_text("x")
    (shell.folder / "empty").mkdir()
    (shell.folder / "odd" / "manifest.json").mkdir(parents=True)
    return {
        "nothing": "gone",
        "an empty name": "",
        "a file": "file",
        "below a file": "file/run",
        "no run": "empty",
        "a folder for a manifest": "odd",
        "too long": "x" * 5000,
        "a null byte": "a\0b",
    }


@pytest.mark.parametrize("command", ON_RUNS)
def test_what_is_no_run_is_refused(shell: Shell, command: str) -> None:
    folders = named_folders(shell)
    before = sorted(shell.folder.rglob("*"))
    for name in folders.values():
        line = shell.refused(command, name)
        assert "not a run directory" in line or "manifest.json: cannot be read" in line
    assert sorted(shell.folder.rglob("*")) == before


@pytest.mark.parametrize("command", ON_RUNS)
def test_a_folder_that_may_not_be_read_is_named(
    shell: Shell, archived: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_bytes, is_file = Path.read_bytes, Path.is_file

    def denied(read: Callable[[Path], Any]) -> Callable[[Path], Any]:
        def reading(path: Path) -> Any:
            if archived.name in path.parts:
                raise PermissionError(13, "Permission denied", str(path))
            return read(path)

        return reading

    monkeypatch.setattr(Path, "read_bytes", denied(open_bytes))
    monkeypatch.setattr(Path, "is_file", denied(is_file))
    assert "archived/manifest.json: cannot be read: Permission denied" in shell.refused(command, "archived")


@pytest.mark.parametrize("command", [*ON_RUNS, "prepare"])
def test_wrong_arguments_are_one_line(shell: Shell, command: str) -> None:
    assert f"specdec-bench {command}: the following arguments are required" in shell.refused(command)
    assert "unrecognized arguments: --nosuch" in shell.refused(command, "x", "--nosuch")
    if command in ("replay", "prepare"):
        assert "--output: expected one argument" in shell.refused(command, "x", "--output")


# ---------------------------------------------------------------- what is damaged


def edit_manifest(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], Any]:
    def edit(run: Path) -> None:
        manifest = json.loads((run / "manifest.json").read_text())
        change(manifest)
        (run / "manifest.json").write_text(json.dumps(manifest))

    return edit


def write(name: str, text: str) -> Callable[[Path], Any]:
    return lambda run: (run / name).write_text(text)


def cut(name: str, num_bytes: int) -> Callable[[Path], Any]:
    return lambda run: (run / name).write_bytes((run / name).read_bytes()[:-num_bytes])


def without_last_line(run: Path) -> None:
    lines = (run / "requests.jsonl").read_text().splitlines(keepends=True)
    (run / "requests.jsonl").write_text("".join(lines[:-1]))


DAMAGES: dict[str, tuple[tuple[str, ...], Callable[[Path], Any], str]] = {
    "manifest: no JSON": (ON_RUNS, write("manifest.json", "{"), "manifest.json: not a manifest"),
    "manifest: a list": (ON_RUNS, write("manifest.json", "[]"), "manifest.json: not a manifest"),
    "manifest: an object": (ON_RUNS, write("manifest.json", "{}"), "manifest.json: not a manifest"),
    "manifest: newer": (
        ON_RUNS,
        edit_manifest(lambda manifest: manifest.update(schema_version=SCHEMA_VERSION + 1)),
        f"schema version {SCHEMA_VERSION + 1}, but this release reads up to {SCHEMA_VERSION}",
    ),
    "manifest: no configuration": (
        ON_RUNS,
        edit_manifest(lambda manifest: manifest.update(config={})),
        "its config has no engine, model, dataset, spec, load, sampling",
    ),
    "manifest: a number for a group": (
        ON_RUNS,
        edit_manifest(lambda manifest: manifest["config"].update(spec=3)),
        "its config has no spec",
    ),
    "summary: no JSON": (("check",), write("summary.json", "nonsense"), "summary.json: cannot be read"),
    "summary: empty": (
        ("check", "replay"),
        write("summary.json", "{}"),
        "summary.json: cannot be read: Object missing required field",
    ),
    "summary: missing": (("check",), lambda run: (run / "summary.json").unlink(), "has no summary.json"),
    "requests: cut": (("replay", "summarize"), cut("requests.jsonl", 20), "requests.jsonl:4: cut off"),
    "requests: a line less": (
        ("replay",),
        without_last_line,
        "requests.jsonl: holds 2 finished requests, and summary.json counted 3",
    ),
    "requests: missing": (
        ("replay", "summarize"),
        lambda run: (run / "requests.jsonl").unlink(),
        "requests.jsonl: missing, though the run finished",
    ),
    "requests: no JSON": (("replay", "summarize"), write("requests.jsonl", "x\n"), "requests.jsonl:1: broken line"),
    "requests: another object": (("replay", "summarize"), write("requests.jsonl", "{}\n"), ":1: broken line"),
    "config: no YAML": (("replay",), write("config.yaml", "a: [1"), "config.yaml: not YAML"),
    "config: a tab": (("replay",), write("config.yaml", "a:\n\t- 1"), "config.yaml: not YAML"),
    "config: empty": (("replay",), write("config.yaml", ""), "config.yaml: holds no experiment"),
    "config: a text": (("replay",), write("config.yaml", "text"), "config.yaml: holds no experiment"),
    "config: another": (("replay",), write("config.yaml", "a: 1"), "config.yaml: 'seed' is missing"),
    "config: a text for a group": (("replay",), write("config.yaml", "seed: 0\nengine: x"), "config.yaml"),
    "config: not UTF-8": (
        ("replay",),
        lambda run: (run / "config.yaml").write_bytes(b"\xff"),
        "config.yaml: cannot be read",
    ),
    "config: missing": (("replay",), lambda run: (run / "config.yaml").unlink(), "config.yaml: cannot be read"),
    "prompts: missing": (("replay",), lambda run: (run / "prompts.jsonl").unlink(), "has no prompts.jsonl"),
    "prompts: changed": (("replay",), cut("prompts.jsonl", 40), "prompts.jsonl"),
}


@pytest.mark.parametrize(("commands", "damage", "words"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_run_is_refused_before_anything_runs(
    shell: Shell, archived: Path, commands: tuple[str, ...], damage: Callable[[Path], Any], words: str
) -> None:
    damage(archived)
    for command in commands:
        assert words in shell.refused(command, "archived")
    assert [entry.name for entry in shell.folder.iterdir()] == ["archived"]


def test_a_run_without_a_finished_request_is_not_replayed(shell: Shell, archived: Path) -> None:
    edit_manifest(lambda manifest: manifest.update(status="interrupted"))(archived)
    (archived / "requests.jsonl").write_text("")
    (archived / "summary.json").unlink()
    assert "none of its requests finished" in shell.refused("replay", "archived")
    edit_manifest(lambda manifest: manifest.update(engine={}, status="failed", error="no room"))(archived)
    assert "its engine never started (no room)" in shell.refused("replay", "archived")


def test_a_run_that_was_cut_off_is_compared_as_far_as_it_came(shell: Shell, archived: Path) -> None:
    edit_manifest(lambda manifest: manifest.update(status="interrupted"))(archived)
    without_last_line(archived)
    (archived / "summary.json").unlink()
    status, out, err = shell("replay", "archived", "--output", "replayed")
    assert (status, err) == (0, "")
    assert "2 of 2 outputs and 2 of 2 acceptances identical; 1 more are not in it (its status: interrupted)" in out


def test_replays_from_two_folders_go_where_each_was_started(
    shell: Shell, archived: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second uses the measuring process of the first, which was started in the first folder."""
    for name in ("first", "second"):
        (shell.folder / name).mkdir()
        monkeypatch.chdir(shell.folder / name)
        status, _, err = shell("replay", archived, "--output", "replayed")
        assert (status, err) == (0, "")
        assert (shell.folder / name / "replayed" / "summary.json").is_file()


# ---------------------------------------------------------------- where it goes


def test_a_replay_takes_no_folder_that_holds_something(shell: Shell, archived: Path) -> None:
    (shell.folder / "file").write_text("x")
    before = {path: path.read_bytes() for path in shell.folder.rglob("*") if path.is_file()}
    for output in ("archived", "file", "file/below", ".", "x" * 300):
        assert f"--output={output[:40]}" in shell.refused("replay", "archived", "--output", output)
    assert {path: path.read_bytes() for path in shell.folder.rglob("*") if path.is_file()} == before


def test_prepare_refuses_what_cannot_be_read_or_written(shell: Shell) -> None:
    (shell.folder / "folder.parquet").mkdir()
    (shell.folder / "file").write_text("x")
    assert "nosuch: this dataset cannot be prepared" in shell.refused("prepare", "nosuch")
    assert "dataset.path=gone" in shell.refused("prepare", "jsonl", "dataset.path=gone")
    for output in ("folder.parquet", "file/below.parquet"):
        assert f"--output={output[:40]}" in shell.refused("prepare", "demo", "--output", output)
    assert sorted(entry.name for entry in shell.folder.iterdir()) == ["file", "folder.parquet"]


def test_a_dataset_that_may_not_be_read_is_refused(
    shell: Shell, prompts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path) -> Any:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("specdec_bench.datasets.rows.read_rows", denied)
    monkeypatch.setattr("specdec_bench.datasets.prepare._sha256", denied)
    words = f"dataset.path={prompts}: cannot be read: Permission denied"
    assert words in shell.refused("engine=synthetic", "spec=ngram", "dataset=jsonl", f"dataset.path={prompts}")
    assert words in shell.refused("prepare", "jsonl", f"dataset.path={prompts}")


@pytest.mark.parametrize("folder", ["file", "file/run", "x" * 300])
def test_a_run_directory_that_cannot_be_made_is_refused(shell: Shell, prompts: Path, folder: str) -> None:
    (shell.folder / "file").write_text("x")
    experiment = ("engine=synthetic", "spec=ngram", "dataset=jsonl", f"dataset.path={prompts}")
    assert f"hydra.run.dir={folder[:40]}" in shell.refused(*experiment, f"hydra.run.dir={folder}")
    assert f"hydra.sweep.dir={folder[:40]}" in shell.refused("-m", *experiment, f"hydra.sweep.dir={folder}")
    assert [entry.name for entry in shell.folder.iterdir()] == ["file"]


def test_what_the_user_named_is_told_from_what_failed() -> None:
    assert (ArchiveError.exit_status, ArchiveInputError.exit_status) == (1, 2)
    assert issubclass(ArchiveInputError, ArchiveError)


# ---------------------------------------------------------------- definitions


def age(run: Path) -> float:
    """Makes the summary one of an older release; returns what its rate per user is by the definition of now."""
    summary = json.loads((run / "summary.json").read_text())
    rate: float = summary["throughput"]["output_tps_per_user"]
    summary["definitions"]["output_tps_per_user"] = "mean over requests of rates"
    del summary["definitions"]["output_tps_per_request"], summary["throughput"]["output_tps_per_request"]
    summary["throughput"]["output_tps_per_user"] = rate * 1.5
    (run / "summary.json").write_text(json.dumps(summary))
    return rate


CHANGED = (
    "the definition of output_tps_per_user CHANGED: it was 'mean over requests of rates', and is 'sum over requests"
)


def test_summarize_says_that_a_definition_changed(shell: Shell, archived: Path) -> None:
    current = (archived / "summary.json").read_bytes()
    age(archived)
    status, out, err = shell("summarize", "archived")
    assert (status, err) == (0, "")
    changed, new = [line for line in out.splitlines() if line.startswith("summary.json: ")]
    assert changed.startswith(f"summary.json: {CHANGED}")
    assert new == "summary.json: new since it was written: output_tps_per_request"
    assert (archived / "summary.json").read_bytes() == current
    assert "summary.json: unchanged" in shell("summarize", "archived")[1]


def test_a_sweeps_table_is_by_the_definitions_of_now(shell: Shell, finished_run: Path) -> None:
    sweep = shell.folder / "sweep"
    for name in ("0", "1"):
        shutil.copytree(finished_run, sweep / name)
    (sweep / "multirun.yaml").touch()
    rate = age(sweep / "0")
    status, out, err = shell("summarize", "sweep")
    assert (status, err) == (0, "")
    assert f"summary.json of 1 cells: {CHANGED}" in out
    rows = list(csv.DictReader((sweep / "sweep.csv").read_text().splitlines()))
    assert [float(row["output_tps_per_user"]) for row in rows] == pytest.approx([rate, rate])
    assert (sweep / "0" / "summary.json").read_bytes() == (sweep / "1" / "summary.json").read_bytes()
    assert "CHANGED" not in shell("summarize", "sweep")[1]


def test_summarize_names_values_that_no_definition_explains(shell: Shell, archived: Path) -> None:
    path = archived / "summary.json"
    old = json.loads(path.read_text())
    old["requests"]["finished"], old["throughput"]["output_tps"] = 4, 1.0
    path.write_text(json.dumps(old))
    assert (
        "summary.json: CHANGED: requests.finished, throughput.output_tps had another value before"
        in shell("summarize", "archived")[1]
    )
