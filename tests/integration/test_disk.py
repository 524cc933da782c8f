"""A disk that is full, read-only or gone: the path is named, whole lines stay readable, and the run has failed."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from specdec_bench.archive import RunDirectory
from tests.helpers.command_line import CommandLine, measured, read_json, wait_until

ENDLESS = ("sampling.max_new_tokens=200", "engine.step_time_ms=0", "load.repeats=100000")
NO_SPACE = "No space left on device"
KIB = 1024


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 KiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    privileged = [] if os.geteuid() == 0 else ["sudo", "-n"]
    mount = [*privileged, "mount", "-t", "tmpfs", "-o", f"size=200k,uid={os.geteuid()}", "tmpfs", str(folder)]
    if shutil.which(mount[0]) is None or subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a file system; run as root or with sudo")
    try:
        yield folder
    finally:
        subprocess.run([*privileged, "umount", "--lazy", str(folder)], check=True)


def fill(folder: Path, leaving: int) -> None:
    """Leaves so many bytes free on a disk."""
    space = os.statvfs(folder)
    with (folder / "filler").open("wb") as file:
        file.write(bytes(space.f_bavail * space.f_frsize - leaving))


def failed_requests(run: Path, words: str) -> int:
    """Returns the number of whole requests of a run that says why it failed, none of them torn."""
    manifest = read_json(run / "manifest.json")
    assert (manifest["status"], manifest["finished_utc"] is None) == ("failed", False)
    assert words in manifest["error"]
    data = (run / "requests.jsonl").read_bytes()
    assert data.endswith(b"\n") or not data
    assert len(list(RunDirectory.open(run).requests())) == data.count(b"\n")
    return data.count(b"\n")


def test_a_disk_that_fills_up_ends_the_run_as_failed(command_line: CommandLine, small_disk: Path) -> None:
    run = small_disk / "run"
    outcome = command_line.measure(*ENDLESS, f"hydra.run.dir={run}")
    assert outcome.status == 1
    words = f"{run / 'requests.jsonl'}: requests are lost, writing failed: {NO_SPACE}; free space and run again"
    assert outcome.error == f"error: {words}"
    assert failed_requests(run, words) >= 5
    # The file was as long as the disk allowed, so that the reserved room alone took the last manifest.
    assert not list(run.glob(".*.tmp"))
    assert not list(run.glob(".*.reserved"))
    # What finished before is as good as ever, once there is room.
    (run / "config.yaml").unlink()
    assert command_line("summarize", run).status in (0, 1)
    assert read_json(run / "summary.json")["requests"]["finished"] >= 5


def test_a_sweep_on_a_full_disk_names_every_path(command_line: CommandLine, small_disk: Path) -> None:
    sweep = small_disk / "sweep"
    outcome = command_line.measure("-m", *ENDLESS, "seed=1,2", f"hydra.sweep.dir={sweep}")
    assert outcome.status == 1
    assert outcome.errors[0].startswith(f"error: job 0: {sweep / '0' / 'requests.jsonl'}: requests are lost")
    assert all(f" {sweep}" in error and NO_SPACE in error for error in outcome.errors), outcome.errors
    assert outcome.stderr.splitlines() == outcome.errors
    failed_requests(sweep / "0", NO_SPACE)


@pytest.mark.parametrize("free_kib", [0, 8, 16, 24, 32, 44, 60])
def test_full_from_the_start(command_line: CommandLine, small_disk: Path, free_kib: int) -> None:
    """Hydra's files, the manifest, prompts, the log, the summary: whatever does not fit is named."""
    fill(small_disk, leaving=free_kib * KIB)
    run = small_disk / "run"
    outcome = command_line.measure("hydra.run.dir=" + str(run), "sampling.max_new_tokens=200", "load.repeats=20")
    assert outcome.status == (2 if "hydra.run.dir=" in outcome.error else 1)  # refused, or begun
    assert str(run) in outcome.error
    assert NO_SPACE in outcome.error
    if RunDirectory.is_run(run):
        failed_requests(run, NO_SPACE)
    else:
        assert not run.exists()


@pytest.mark.parametrize(
    "arguments", [["hydra.run.dir="], ["-m", "seed=1,2", "hydra.sweep.dir="]], ids=["run", "sweep"]
)
@pytest.mark.parametrize("where", ["read-only", "not mounted", "a file"])
def test_where_nothing_can_be_written_is_refused(
    command_line: CommandLine, small_disk: Path, arguments: list[str], where: str
) -> None:
    folder, reason = {
        "read-only": (small_disk, "cannot be written"),
        "not mounted": (Path("/proc/nowhere"), "No such file or directory"),
        "a file": (command_line.prompts, "is a file"),
    }[where]
    if where == "read-only":
        privileged = [] if os.geteuid() == 0 else ["sudo", "-n"]
        subprocess.run([*privileged, "mount", "-o", "remount,ro", "tmpfs", str(small_disk)], check=True)
    *others, last = arguments
    outcome = command_line.measure(*others, f"{last}{folder / 'x'}")
    assert outcome.status == 2
    assert outcome.error.startswith(f"error: {last}{folder / 'x'}: ")
    assert reason in outcome.error


def test_a_folder_that_is_removed_ends_the_run(command_line: CommandLine) -> None:
    run = command_line.folder / "run"
    endless = ["sampling.max_new_tokens=4", "load.repeats=1000000"]
    with command_line.started(*command_line.experiment, *endless, "hydra.run.dir=run") as running:
        wait_until(lambda: len(measured(run)) >= 5)
        run.rename(command_line.folder / "moved")
        shutil.rmtree(command_line.folder / "moved")
        outcome = running.end()
    assert outcome.status == 1
    assert outcome.error == (
        f"error: {run / 'requests.jsonl'}: requests are lost, writing failed: the file was removed while it was "
        "written; free space and run again"
    )


def test_a_log_that_cannot_be_written_holds_nothing_up(command_line: CommandLine) -> None:
    """/dev/full takes nothing, and the measuring process must not wait for it."""
    run = command_line.folder / "run"
    run.mkdir()
    (run / "run.log").symlink_to("/dev/full")
    outcome = command_line.measure("hydra.run.dir=run")
    assert (outcome.status, outcome.stderr) == (0, "")


def test_a_stopped_process_fails_its_cell_alone(command_line: CommandLine) -> None:
    """SIGSTOP leaves nothing that could report: the parent alone can tell."""
    sweep = command_line.folder / "sweep"
    arguments = [
        "-m", *command_line.experiment, "sampling.max_new_tokens=4", "load.repeats=1000000,1",
        "engine.stall_timeout_s=5", "hydra.sweep.dir=sweep",
    ]  # fmt: skip
    with command_line.started(*arguments) as running:
        wait_until(lambda: len(measured(sweep / "0")) >= 5)
        os.kill(running.measuring_process(), signal.SIGSTOP)
        outcome = running.end()
    assert outcome.status == 1
    words = "the engine gave no token for 5 s (engine.stall_timeout_s), with requests in flight; its last words: "
    assert outcome.errors[0].startswith(f"error: job 0: {words}")
    assert failed_requests(sweep / "0", words) >= 5
    assert read_json(sweep / "1" / "manifest.json")["status"] == "finished"
