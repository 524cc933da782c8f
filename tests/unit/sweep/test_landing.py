"""Where runs and cells land: what holds, what is refused, and who gets a folder that several want."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from omegaconf import DictConfig

from specdec_bench.archive.hydra_files import learn_composed
from specdec_bench.archive.names import HYDRA
from specdec_bench.errors import ConfigError
from specdec_bench.sweep import landing
from specdec_bench.sweep.claims import claim

pytestmark = pytest.mark.usefixtures("composing")


def composed(*overrides: str) -> DictConfig:
    return hydra_compose("config", overrides=["engine=synthetic", *overrides], return_hydra_config=True)


SWEEP = Path("sweep")
REFUSED_FOLDERS = {
    "": "working directory",
    ".": "working directory",
    "a/..": "working directory",
    "..": "working directory",
    "/": "working directory",
    "link/back": "working directory",
    "file": "is a file",
    "file/run": "is a file",
    "/dev/null/run": "is a file",
    "loop/run": "cannot be used",
    "run/inner": "lies in the folder of a run",
    "planned/extra/run": "lies in the folder of a run or a sweep",
    "a/ b": "begins or ends with a space",
    "~/runs": "write the full path",
    "a\x1b[31m": "cannot be printed",
    "a\nb": "cannot be printed",
    "x" * 241: "a name of 241 bytes",
    "ä" * 121: "a name of 242 bytes",
    "/".join(["x" * 100] * 39): "in a path of",
}


@pytest.mark.parametrize(("folder", "words"), REFUSED_FOLDERS.items(), ids=map(repr, REFUSED_FOLDERS))
def test_where_neither_run_nor_sweep_can_land(tmp_path: Path, folder: str, words: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / "back").symlink_to(tmp_path)
    (tmp_path / "loop").symlink_to("loop")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "manifest.json").touch()
    (tmp_path / "planned").mkdir()
    (tmp_path / "planned" / "sweep.json").touch()
    tree = composed(*(f"{key}={landing.quote(folder)}" for key in (landing.RUN_DIR, landing.SWEEP_DIR)))
    for find in (landing.find_run_folder, landing.find_sweep_folder):
        with pytest.raises(ConfigError, match=words) as refusal:
            find(tree)
        assert str(refusal.value).isprintable()


@pytest.mark.parametrize("name", ["manifest.json", "config.yaml", "requests.jsonl", "sweep.json", "other/", ".hydra/"])
def test_a_run_needs_a_folder_without_what_it_would_write_over(tmp_path: Path, name: str) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).mkdir() if name.endswith("/") else (tmp_path / "run" / name).touch()
    with pytest.raises(ConfigError, match="choose another folder"):
        landing.find_run_folder(composed("hydra.run.dir=run"))


def test_a_run_lands_beside_files_that_are_none_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "slurm-7.out").touch()
    assert landing.find_run_folder(composed("hydra.run.dir=run")) == Path("run")


def test_folders_follow_the_experiment() -> None:
    tree = composed("spec=ngram", "spec.draft_length=5", "hydra.run.dir=runs/${spec.name}/K${spec.draft_length}")
    assert landing.find_run_folder(tree) == Path("runs/ngram/K5")


@pytest.mark.parametrize("key", [landing.RUN_DIR, landing.SWEEP_DIR])
def test_a_secret_does_not_become_the_name_of_a_folder(key: str) -> None:
    find = landing.find_run_folder if key == landing.RUN_DIR else landing.find_sweep_folder
    for field in ("+engine.extra_args.token=abcdefgh", "model.path=https://bob:abcdefgh@host.invalid/x"):
        value = "${engine.extra_args.token}" if "token" in field else "${model.path}"
        tree = composed(field, f"{key}=runs/{value}")
        learn_composed(tree)
        with pytest.raises(ConfigError, match="a secret") as refusal:
            find(tree)
        assert "abcdefgh" not in str(refusal.value)


REFUSED_CELLS = {
    ("",): "the sweep's own folder",
    (".",): "the sweep's own folder",
    ("a/..",): "outside the sweep's folder",
    ("../../evil",): "outside the sweep's folder",
    ("/tmp/x",): "outside the sweep's folder",
    ("out/x",): "outside the sweep's folder",
    ("0", "0"): "as job 0 does",
    ("a//b", "a/./b"): "as job 0 does",
    ("0", "alias"): "as job 0 does",
    ("0", "0/x"): "within the folder of job 0",
    ("a/b/c", "a"): "within the folder of job 1",
    ("attempts",): "a name that the sweep itself uses",
    ("a/attempts/1",): "a name that the sweep itself uses",
    (".hydra",): "a name that the sweep itself uses",
    ("a/.lock",): "a name that the sweep itself uses",
    ("sweep.csv",): "a name that the sweep itself uses",
    ("multirun.yaml/0",): "a name that the sweep itself uses",
    ("a\x07",): "cannot be printed",
    ("x" * 241,): "a name of 241 bytes",
}


@pytest.mark.parametrize(("folders", "words"), REFUSED_CELLS.items(), ids=map(repr, REFUSED_CELLS))
def test_where_cells_cannot_land(tmp_path: Path, folders: tuple[str, ...], words: str) -> None:
    (tmp_path / "sweep" / "0").mkdir(parents=True)
    (tmp_path / "sweep" / "alias").symlink_to("0")
    (tmp_path / "sweep" / "out").symlink_to(tmp_path)
    with pytest.raises(ConfigError, match=words) as refusal:
        landing.check_cell_folders(dict(enumerate(folders)), SWEEP, landing.SUBDIR)
    assert str(refusal.value).isprintable()


def test_where_cells_can_land() -> None:
    folders = {0: "0", 1: "a/b", 2: "a/bc", 3: "spec=ngram,seed=1", 4: "0.5", 5: "sweeps/0"}
    landing.check_cell_folders(folders, SWEEP, landing.SUBDIR)


def test_a_sweep_has_one_folder() -> None:
    given = ("hydra.sweep.dir=X/${spec.name}", "hydra.sweep.subdir=${spec.name}")
    cells = [(n, composed(f"spec={name}", *given)) for n, name in enumerate(("ngram", "none"))]
    with pytest.raises(ConfigError, match=r"X/\$\{spec.name\}: is X/none for job 1 and X/ngram for the sweep"):
        landing.find_cell_folders(cells, Path("X/ngram"))


def test_of_many_that_start_in_the_same_second_each_gets_a_folder(tmp_path: Path) -> None:
    def start(number: int) -> str:
        with claim(tmp_path / "day" / "12-00-00", landing.RUN_DIR, is_new=True) as folder:
            (folder / "manifest.json").write_text(str(number))
        return folder.name

    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(start, range(16)))
    assert sorted(made) == sorted(["12-00-00", *(f"12-00-00-{number}" for number in range(2, 17))])
    assert {(tmp_path / "day" / name / "manifest.json").read_text() for name in made} == set(map(str, range(16)))


def test_the_loser_of_a_folder_writes_and_removes_nothing(tmp_path: Path) -> None:
    with claim(tmp_path / "run", landing.RUN_DIR, is_new=False) as folder:
        (folder / HYDRA / "config.yaml").touch()
        with (
            pytest.raises(ConfigError, match="another run began in it"),
            claim(tmp_path / "run", landing.RUN_DIR, is_new=False),
        ):
            pass
        assert names(folder) == [HYDRA]
        assert names(folder / HYDRA) == ["config.yaml"]
    assert names(tmp_path) == []  # the winner was refused in the end, and takes back what it made


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_what_was_there_stays_when_a_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.log").write_text("mine")
    with claim(tmp_path / "run", landing.RUN_DIR, is_new=False) as folder:
        (folder / HYDRA / "config.yaml").touch()
    assert names(tmp_path / "run") == ["run.log"]


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for folder in ("file", "file/run", "/proc/nope"):
        with (
            pytest.raises(ConfigError, match=f"hydra.run.dir={folder}"),
            claim(Path(folder), landing.RUN_DIR, is_new=False),
        ):
            pass
