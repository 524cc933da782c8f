"""What --help and --version show, in this process."""

from pathlib import Path

import pytest

from specdec_bench import __version__
from specdec_bench.cli.help import help_text
from specdec_bench.cli.main import main
from specdec_bench.config.compose import CONF
from specdec_bench.config.schema.experiment import OPTIONS, OPTIONS_AROUND


def groups(text: str) -> dict[str, list[str]]:
    """Returns the options that it names, by group."""
    lines = text.partition("== Groups (group=option) ==\n")[2].partition("\n\n")[0].splitlines()
    return {group: options.split(", ") for group, options in (line.split(": ") for line in lines)}


def test_every_group_with_its_options_is_shown() -> None:
    shown = groups(help_text())
    assert list(shown) == sorted([*OPTIONS, *OPTIONS_AROUND, "experiment", "hydra/launcher", "hydra/sweeper"])
    for group, options in shown.items():
        assert options == sorted(path.stem for path in (CONF / group).glob("*.yaml"))


def test_options_of_ones_own_are_among_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("experiment/nightly.yaml", "model/ours.yaml", "hydra/job_logging/mine.yaml"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    main(["--help", f"--config-dir={tmp_path}"])
    shown = groups(capsys.readouterr().out)
    assert "nightly" in shown["experiment"]
    assert {"ours", "tiny"} <= set(shown["model"])
    assert "hydra/job_logging" not in shown


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["run", "--help"], ["spec=nosuch", "--help"]])
def test_help_composes_nothing(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("specdec_bench.config.compose.register_schemas", lambda: pytest.fail("composes"))
    main(arguments)
    out, err = capsys.readouterr()
    assert out == help_text()
    assert err == ""


@pytest.mark.parametrize("arguments", [["--version"], ["run", "--version"]])
def test_the_version_is_the_projects(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    main(arguments)
    assert capsys.readouterr().out == f"specdec-bench {__version__}\n"
