"""Hydra's settings and the user's own YAML, on the command line itself: honoured, or refused in one line."""

from pathlib import Path

import pytest

from specdec_bench.cli.main import main

SHORT = ["engine=synthetic", "spec=ngram", "--dry-run"]


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    monkeypatch.setattr("sys.argv", ["run.py"])
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as end:
        main([*SHORT, *arguments])
    output = capsys.readouterr()
    assert (end.value.code, output.out) == (2, ""), output
    (line,) = output.err.splitlines()
    assert line.startswith("error: ")
    assert list(Path().iterdir()) == []
    return line


SETTINGS = {
    "hydra.output_subdir=null": "always .hydra",
    "hydra.job.name=mine": "always run.log",
    "hydra.job.chdir=true": "relative to the folder in which you start",
    "+hydra.job.env_set.X=1": "in the shell",
    "hydra.job.env_set.X=1": "in the shell",
    "hydra.job.env_copy=[HOME]": "in the shell",
    "hydra.job.num=3": "Hydra itself fills it in",
    "hydra.runtime.cwd=/": "Hydra itself fills it in",
    "hydra/help=default": "it changes --help alone",
    "hydra.hydra_logging.root.level=DEBUG": "hydra.job_logging is for run.log",
    "hydra.verbose=3": "must be true, false, or the names of loggers",
    "hydra.sweep.dir=x": "belongs to a sweep; pass -m",
    "hydra/launcher=joblib_workers": "belongs to a sweep; pass -m",
    "hydra/sweeper=optuna_tpe": "belongs to a sweep; pass -m",
    "-m hydra.run.dir=x": "pass hydra.sweep.dir=DIR",
    "-m hydra.mode=RUN": "is a single run, and -m asks for a sweep",
    "-m +hydra.sweeper.other=1": "hydra/sweeper=basic has no such parameter",
    "-m +hydra.launcher.n_jobs=2": "hydra/launcher=basic has no such parameter",
    "-m hydra.sweeper.max_batch_size=0": "at least 1",
    "-m hydra.sweeper.params={seed: {x: 1}}": "hydra.sweeper.params={seed: {x: 1}}",
    "-m hydra.sweeper=null": "hydra.sweeper=None: is not a sweeper",
    "-m baseline=none,auto": "baseline=auto: job 1 sets it",
    "-m spec=glob(x*)": "spec=glob(x*): has no values",
    "-m spec.draft_length=range(5,1)": "range(5,1): has no values",
    "-m seed=range(0,1000000000)": "a sweep has at most 10,000",
    "hydra.mode=nonsense": "expected one of [RUN, MULTIRUN]",
    "hydra/launcher=nosuch": "hydra/launcher=nosuch: no such option; choose one of basic",
    "hydra.nosuch=1": "hydra.nosuch=1: Hydra has no such setting",
    "hydra.searchpath=[file:///gone]": "path=/gone is not available",
    "+hydra.callbacks.x._target_=no.such": "Error locating target 'no.such'",
    "+hydra.callbacks.x.y=1": "is not a Hydra callback",
    "load=null": "load=null: load is a group of options",
    "load=3": "load=3: load is a group of options",
    "engine=null": "engine=null: engine is a group of options",
    "hydra=3": "hydra=3: hydra is a group of options",
    "~load load.repeats=1": "load: has no option; choose one with load=NAME",
    "load=": "load=: no such option; choose one of closed",
    "experiment=../x": "experiment=../x: no such option",
    "engine.name=vllm": "engine.name=vllm: is fixed by engine=synthetic; choose another option by engine=NAME",
    "dataset.name=../../x": "dataset.name=../../x: is fixed by dataset=demo",
    "seed=${seed}": "seed: Recursive interpolation",
    "seed=${oc.env:NOT_SET_ANYWHERE}": "NOT_SET_ANYWHERE",
    "+x.y=1": "+x={'y': 1}: no such field",
}


@pytest.mark.parametrize("given", SETTINGS)
def test_a_setting_is_honoured_or_refused(capsys: pytest.CaptureFixture[str], given: str) -> None:
    flags = given.removeprefix("-m ")
    arguments = [flags] if "{" in given else flags.split()
    assert SETTINGS[given] in refused(capsys, *(["-m"] if flags != given else []), *arguments)


GLOBAL = "# @package _global_\n"
FILES = {
    "experiment/mine": {
        "load:\n  concurrency: [1\nseed: 3\n": "mine.yaml:4: is not valid YAML",
        "load:\n\trepeats: 1\n": "mine.yaml:3: is not valid YAML",
        "seed: 1\nseed: 2\n": "mine.yaml:3: is not valid YAML: found duplicate key seed",
        "seed: 1\n---\nseed: 2\n": "another document",
        "seed: &a [*a]\n": "an anchor in it holds itself",
        "seed: !!python/object:os.system {}\n": "mine.yaml:2: is not valid YAML",
        "": "mine.yaml: is empty",
        "- seed\n": "mine.yaml: holds a list",
        "just words\n": "mine.yaml: holds only a text",
        "name: \udcff\n": "mine.yaml: is not UTF-8",
        "load:\n  repats: 1\n": "mine.yaml: load.repats: no such field; load has arrival_seed, arrivals, clients, "
        "concurrency, duration_s, max_in_flight, num_conversations, num_warmup, path, ramp_s, rate, repeats, speed, ",
        "laod:\n  repeats: 1\n": "mine.yaml: laod: no such field or group",
        "load:\n  repeats: many\n": "mine.yaml: load.repeats: Value 'many'",
        "load: null\n": "mine.yaml: load: is not what the field holds; a group is chosen by defaults",
        "load: 3\n": "mine.yaml: 3: is not what the field holds; a group is chosen by defaults",
        "defaults: 3\n": "mine.yaml: Invalid defaults list",
        "defaults:\n  - override /load: 3\n": "mine.yaml: Unsupported item value in defaults",
        "defaults:\n  - override load: closed\n": "with the slash",
        "defaults:\n  - override /laod: closed\n": "mine.yaml: override laod: no such group",
        "defaults:\n  - override /load: nosuch\n": "load=nosuch: no such option",
        "defaults:\n  - mine\n": "a file chooses itself",
        "engine:\n  name: vllm\n": "engine.name=vllm: is fixed by engine=synthetic",
        "seed: ${seed}\n": "seed: Recursive interpolation",
        "hydra:\n  job:\n    chdir: true\n": "hydra.job.chdir=True: is not supported",
        "hydra:\n  hydra_logging: {version: 1}\n": "mine.yaml: hydra.hydra_logging.version: is not supported",
        "hydra:\n  nosuch: 1\n": "mine.yaml: hydra.nosuch: Hydra has no such setting",
        "hydra:\n  searchpath: [file:///x]\n": "mine.yaml: Overriding hydra.searchpath is only supported",
        "hydra:\n  sweeper:\n    params:\n      seed: 1,2\n": "set hydra.mode: MULTIRUN beside it",
        "baseline: auto\n": "baseline=auto: belongs to a sweep",
    },
    "engine/mine": {
        "step_time_ms: 3\n": "mine.yaml: engine.step_time_ms: no such field; begin it with 'defaults: [/schema/engine/",
        "defaults: [/schema/engine/synthetic@_here_, _self_]\nstep_tme_ms: 3\n": "mine.yaml: engine.step_tme_ms",
    },
}
CASES = [(name, text, words) for name, texts in FILES.items() for text, words in texts.items()]


@pytest.mark.parametrize(("name", "text", "words"), CASES)
def test_a_wrong_file_is_named_with_the_mend(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, text: str, words: str
) -> None:
    group, _, option = name.partition("/")
    (tmp_path / "own" / group).mkdir(parents=True)
    header = GLOBAL if group == "experiment" else "# of my own\n"
    path = tmp_path / "own" / f"{name}.yaml"
    path.write_text(header + text, encoding="utf-8", errors="surrogateescape")
    assert words in refused(capsys, f"--config-dir={tmp_path / 'own'}", f"{group}={option}")


@pytest.mark.parametrize(
    "header", ["", "# @package _gobal_\n", "# @package: _global_\n", "seed: 1\n# @package _global_\n"]
)
def test_an_experiment_without_its_header_is_told_of_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, header: str
) -> None:
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "mine.yaml").write_text(header + "load:\n  repeats: 2\n")
    line = refused(capsys, f"--config-dir={tmp_path / 'own'}", "experiment=mine")
    assert "mine.yaml: its " in line
    assert "'# @package _global_'" in line


SWEPT = {
    "launcher": ("defaults: [override /hydra/launcher: joblib_workers]\n", "hydra/launcher=joblib_workers: job 0"),
    "sweeper": ("hydra:\n  sweeper:\n    params:\n      seed: 1,2\n", "hydra.sweeper="),
    "chdir": ("hydra:\n  job:\n    chdir: true\n", "hydra.job.chdir=True: is not supported"),
    "sweep's own field": ("order: replicates\n", "order="),
    "folder": ("hydra:\n  sweep:\n    dir: other\n", "a|which has one folder"),
}


@pytest.mark.parametrize(("text", "words"), SWEPT.values(), ids=SWEPT)
def test_a_swept_experiment_does_not_set_what_is_of_the_sweep(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, words: str
) -> None:
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    (tmp_path / "own" / "experiment" / "mine.yaml").write_text(GLOBAL + text)
    (tmp_path / "own" / "experiment" / "other.yaml").write_text(GLOBAL + "seed: 7\n")
    line = refused(capsys, "-m", f"--config-dir={tmp_path / 'own'}", "experiment=mine,other")
    assert words.rpartition("|")[2] in line
    if "hydra" in words.partition(":")[0] and "chdir" not in words:
        assert str(tmp_path / "own" / "experiment" / "mine.yaml") in line
