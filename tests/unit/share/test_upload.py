"""Uploads to file systems without a network: what is sent, skipped, refused, gone on with, and noticed."""

import fcntl
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import _registry

from specdec_bench.archive.layout import RunDirectory
from specdec_bench.errors import ConfigError
from specdec_bench.share.storage import open_storage
from tests.helpers.archive_samples import CONFIG_YAML, make_manifest, make_prompt
from tests.helpers.in_process import run
from tests.helpers.made_archives import reply, write_run

FILES = ["config.yaml", "manifest.json", "prompts.jsonl", "requests.jsonl", "responses.jsonl", "summary.json"]


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """A finished run whose files are the ones of FILES."""
    prompt = make_prompt(0)
    write_run(tmp_path / "one", [reply(prompt, (3, 1))], [prompt])
    return tmp_path / "one"


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    file_system = fsspec.filesystem("memory")
    file_system.store.clear()
    yield file_system
    file_system.store.clear()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_is_copied_whole_and_a_second_call_sends_nothing(archive: Path, tmp_path: Path) -> None:
    url = f"file://{tmp_path}/copies/of one"
    first = run(tmp_path, "upload", "one", url)
    assert (first.status, first.stderr) == (0, "")
    assert contents(tmp_path / "copies" / "of one") == contents(archive)
    assert sorted(contents(archive)) == FILES
    assert first.stdout.splitlines()[-1].startswith("6 files uploaded and verified (")
    assert first.stdout.splitlines()[-2].startswith("upload  manifest.json  ")  # after all others
    second = run(tmp_path, "upload", "one", url)
    assert second.stdout == f"0 files uploaded and verified (0.0 kB), 6 already there  {url}\n"


def test_a_sweep_keeps_its_folders_and_its_plan_comes_last(
    archive: Path, tmp_path: Path, memory: MemoryFileSystem
) -> None:
    sweep = tmp_path / "sweep"
    (sweep / "attempts").mkdir(parents=True)
    archive.rename(sweep / "0")
    RunDirectory.create(sweep / "attempts" / "0-1", make_manifest(), [make_prompt()], CONFIG_YAML)
    for name in ("sweep.json", ".lock", ".jobs"):
        (sweep / name).write_text("{}")
    done = run(tmp_path, "upload", "sweep", "memory://bucket/x")
    assert done.status == 0, done.stderr
    sent = [line.split("  ")[1] for line in done.stdout.splitlines()[:-1]]
    attempt = [f"attempts/0-1/{name}" for name in ("config.yaml", "prompts.jsonl")]
    assert sent[:7] == sorted([*(f"0/{name}" for name in FILES if name != "manifest.json"), *attempt])
    assert sent[7:] == ["0/manifest.json", "attempts/0-1/manifest.json", "sweep.json"]
    assert memory.cat("/bucket/x/0/requests.jsonl") == (sweep / "0" / "requests.jsonl").read_bytes()


def test_a_dry_run_lists_and_changes_nothing(archive: Path, tmp_path: Path, memory: MemoryFileSystem) -> None:
    memory.pipe("/x/config.yaml", (archive / "config.yaml").read_bytes())
    shown = run(tmp_path, "upload", "one", "memory://x", "--dry-run")
    lines = shown.stdout.splitlines()
    assert [line.split("  ")[:2] for line in lines[:-1]] == [
        ["would upload", name] for name in FILES if name != "config.yaml"
    ]
    assert lines[-1].startswith("5 files to upload (")
    assert lines[-1].endswith(", 1 already there  memory://x")
    assert memory.find("/x") == ["/x/config.yaml"]


def test_another_file_of_the_same_name_is_refused_before_anything_is_sent(
    archive: Path, tmp_path: Path, memory: MemoryFileSystem
) -> None:
    same_size = (archive / "summary.json").read_bytes()[:-1] + b"X"
    memory.pipe("/x/summary.json", same_size)
    refused = run(tmp_path, "upload", "one", "memory://x")
    assert (refused.status, refused.stdout) == (2, "")
    assert "summary.json differ from the archive's; nothing was sent" in refused.error
    assert memory.find("/x") == ["/x/summary.json"]
    assert memory.cat("/x/summary.json") == same_size
    replaced = run(tmp_path, "upload", "one", "memory://x", "--overwrite")
    assert "replace  summary.json" in replaced.stdout
    assert memory.cat("/x/summary.json") == (archive / "summary.json").read_bytes()


@pytest.mark.parametrize("stored", [b"", b"beginning"])
def test_the_beginning_of_a_file_is_what_an_interruption_left_and_is_gone_on_with(
    archive: Path, tmp_path: Path, memory: MemoryFileSystem, stored: bytes
) -> None:
    whole = (archive / "requests.jsonl").read_bytes()
    memory.pipe("/x/requests.jsonl", whole[:50] if stored else b"")
    done = run(tmp_path, "upload", "one", "memory://x")
    assert done.status == 0, done.stderr
    assert memory.cat("/x/requests.jsonl") == whole


def test_after_a_failure_the_same_call_sends_only_what_is_missing(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy, sent = LocalFileSystem.put_file, []

    def fail_at_the_third(self: LocalFileSystem, path: str, target: str, **_: object) -> None:
        sent.append(Path(path).name)
        if len(sent) == 3:
            Path(target).write_bytes(Path(path).read_bytes()[:20])
            raise ConnectionResetError("the line is dead")
        copy(self, path, target)

    monkeypatch.setattr(LocalFileSystem, "put_file", fail_at_the_third)
    url = f"file://{tmp_path}/copy"
    failed = run(tmp_path, "upload", "one", url)
    assert failed.status == 1
    assert failed.error == "error: requests.jsonl: ConnectionResetError: the line is dead; call again to go on"
    assert sent == ["config.yaml", "prompts.jsonl", "requests.jsonl"]
    assert not (tmp_path / "copy" / "manifest.json").exists()
    assert run(tmp_path, "upload", "one", url).status == 0
    assert sent[3:] == ["requests.jsonl", "responses.jsonl", "summary.json", "manifest.json"]
    assert contents(tmp_path / "copy") == contents(archive)


def test_a_file_that_comes_back_changed_is_noticed(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = LocalFileSystem.put_file

    def flip_a_bit(self: LocalFileSystem, path: str, target: str, **_: object) -> None:
        copy(self, path, target)
        if path.endswith("summary.json"):
            content = bytearray(Path(target).read_bytes())
            content[10] ^= 1
            Path(target).write_bytes(content)

    monkeypatch.setattr(LocalFileSystem, "put_file", flip_a_bit)
    noticed = run(tmp_path, "upload", "one", f"file://{tmp_path}/copy")
    assert noticed.status == 1
    assert "error: summary.json: what was read back is not what was sent" in noticed.error
    assert not (tmp_path / "copy" / "manifest.json").exists()


def test_links_are_left_out(archive: Path, tmp_path: Path, memory: MemoryFileSystem) -> None:
    (tmp_path / "secret").write_text("x")
    (archive / "link").symlink_to(tmp_path / "secret")
    (archive / "folder").symlink_to(tmp_path)
    done = run(tmp_path, "upload", "one", "memory://x")
    assert done.stdout.splitlines()[:2] == ["left out  folder: no regular file", "left out  link: no regular file"]
    assert len(memory.find("/x")) == len(FILES)


def test_what_still_runs_is_refused(tmp_path: Path, memory: MemoryFileSystem) -> None:
    RunDirectory.create(tmp_path / "going", make_manifest(), [make_prompt()], CONFIG_YAML)
    refused = run(tmp_path, "upload", "going", "memory://x")
    assert refused.status == 2
    assert "going: is running, or was killed" in refused.error
    assert run(tmp_path, "upload", "going", "memory://x", "--unfinished").status == 0
    assert memory.exists("/x/manifest.json")


@pytest.mark.parametrize(("name", "kind"), [(".lock", fcntl.LOCK_EX), (".jobs", fcntl.LOCK_SH)])
def test_a_sweep_that_still_runs_is_refused(
    archive: Path, tmp_path: Path, memory: MemoryFileSystem, name: str, kind: int
) -> None:
    (tmp_path / "sweep.json").write_text("{}")
    with (tmp_path / name).open("w") as lock:
        fcntl.flock(lock, kind)
        refused = run(tmp_path, "upload", ".", "memory://x")
    assert refused.status == 2
    assert "its sweep is running; wait for it" in refused.error
    assert run(tmp_path, "upload", ".", "memory://x").status == 0


def test_no_secret_of_a_url_is_printed(archive: Path, tmp_path: Path) -> None:
    signed = run(tmp_path, "upload", "one", "https://host/folder?X-Amz-Signature=0123456789abcdef&sig=tops3cret")
    assert signed.status == 2
    assert "has a query" in signed.error
    with_password = run(tmp_path, "upload", "one", "nosuch://someone:hunter2hunter2@host/folder")
    assert with_password.status == 2
    assert "[redacted]@host" in with_password.error
    for word in ("0123456789abcdef", "tops3cret", "hunter2", "someone"):
        assert word not in signed.stderr + with_password.stderr


def test_an_archive_is_not_copied_into_itself(archive: Path, tmp_path: Path) -> None:
    refused = run(tmp_path, "upload", "one", f"file://{archive}/copy")
    assert refused.status == 2
    assert "lies within one" in refused.error


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    monkeypatch.delitem(_registry, "s3", raising=False)
    with pytest.raises(ConfigError, match=r"URL=s3://b/x: Install s3fs .*; run: pip install 'specdec-bench\[s3\]'"):
        open_storage("s3://b/x")
