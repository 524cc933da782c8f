import json
import os
import signal
import stat
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import pytest

from specdec_bench.archive import RequestWriter, Response, RunDirectory, files
from specdec_bench.errors import ArchiveError
from specdec_bench.metrics.summary import encode, summarize
from specdec_bench.records.request import SCHEMA_VERSION
from tests.helpers.archive_samples import CONFIG_YAML, HOSTILE, make_manifest, make_prompt, make_request, start_python
from tests.helpers.trees import as_tree

NewRun = Callable[..., RunDirectory]


def write_requests(run: RunDirectory, number: int) -> bytes:
    with RequestWriter(run.requests_path) as writer:
        for i in range(number):
            writer.append(make_request(i))
    return run.requests_path.read_bytes()


# ---------------------------------------------------------------- create and open


def test_a_new_run_can_be_read_back(tmp_path: Path) -> None:
    prompts = [make_prompt(i, turns=(text,), system=text, max_new_tokens=i) for i, text in enumerate(HOSTILE)]
    manifest = make_manifest(error="\ud800\u2028", command=tuple(HOSTILE))
    RunDirectory.create(tmp_path / "deep" / "run", manifest, prompts, CONFIG_YAML)
    run = RunDirectory.open(str(tmp_path / "deep" / "run"))
    assert run.manifest() == manifest
    assert run.prompts() == prompts
    assert run.config() == CONFIG_YAML
    shown = {path.name for path in run.path.iterdir() if not path.name.startswith(".")}
    assert shown == {"manifest.json", "config.yaml", "prompts.jsonl"}
    assert len(run.prompts_path.read_text(encoding="utf-8").splitlines()) == len(HOSTILE)


def test_a_run_takes_the_folder_that_hydra_made(tmp_path: Path) -> None:
    (tmp_path / ".hydra").mkdir()
    (tmp_path / "run.log").write_text("composed\n")
    run = RunDirectory.create(tmp_path, make_manifest(), [], "")
    assert run.prompts() == []
    assert run.log_path.read_text() == "composed\n"


def test_files_have_the_usual_permissions(new_run: NewRun) -> None:
    run = new_run()
    run.write_manifest(run.manifest())
    umask = os.umask(0)
    os.umask(umask)
    for path in (run.manifest_path, run.prompts_path, run.config_path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_a_folder_holds_one_run(new_run: NewRun) -> None:
    run = new_run()
    before = run.manifest_path.read_bytes()
    with pytest.raises(ArchiveError, match="already holds a run"):
        new_run(run_id="run-2")
    assert run.manifest_path.read_bytes() == before


_CLAIM = """
import sys, time
from pathlib import Path
from tests.helpers.archive_samples import CONFIG_YAML, make_manifest, make_prompt
from tests.helpers.trees import as_tree
from specdec_bench.archive import RunDirectory
from specdec_bench.errors import ArchiveError
folder, name, start = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
time.sleep(max(start - time.time(), 0))
for number in range(50):
    while time.time() < start + 0.01 * number:
        pass
    try:
        RunDirectory.create(folder / str(number), make_manifest(run_id=name), [make_prompt()], CONFIG_YAML)
    except ArchiveError as error:
        assert "already holds a run" in str(error)
    else:
        (folder / f"{number}.{name}").touch()
"""


def test_of_racing_processes_exactly_one_gets_the_folder(tmp_path: Path) -> None:
    start = time.time() + 2
    processes = [start_python(_CLAIM, tmp_path, name, str(start)) for name in ("a", "b", "c")]
    assert [process.wait(60) for process in processes] == [0, 0, 0]
    for number in range(50):
        (won,) = tmp_path.glob(f"{number}.*")
        assert RunDirectory.open(tmp_path / str(number)).manifest().run_id == won.suffix[1:]


def test_what_cannot_be_archived_claims_nothing(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="object"):
        RunDirectory.create(tmp_path / "a", make_manifest(environment={"x": object()}), [], "")
    with pytest.raises(ArchiveError, match="configuration"):
        RunDirectory.create(tmp_path / "b", make_manifest(), [], "\ud800")
    assert list(tmp_path.iterdir()) == []


def test_a_claim_that_cannot_be_written_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("specdec_bench.archive.files.write_all", full)
    with pytest.raises(ArchiveError, match="No space left"):
        RunDirectory.create(tmp_path, make_manifest(), [], "")
    assert not RunDirectory.is_run(tmp_path)


def test_a_file_in_the_way_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ArchiveError, match="file"):
        RunDirectory.create(tmp_path / "file", make_manifest(), [], "")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "not a run directory"),
        (b"", "not a manifest of this project"),
        (b"{}", "schema_version"),
        (b'{"schema_version": "1"}', "schema_version"),
        (b'{"schema_version": 1}', "status|run_id"),
        (b"\xff\xfe", "not a manifest"),
        (f'{{"schema_version": {SCHEMA_VERSION + 1}, "new": "\\ud800"}}'.encode(), "upgrade"),
    ],
)
def test_what_is_no_run_is_refused_in_one_line(tmp_path: Path, content: bytes | None, message: str) -> None:
    if content is not None:
        (tmp_path / "manifest.json").write_bytes(content)
    with pytest.raises(ArchiveError, match=message) as caught:
        RunDirectory.open(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_paths_that_are_no_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for name in ("missing", "file"):
        with pytest.raises(ArchiveError, match="not a run directory"):
            RunDirectory.open(tmp_path / name)


# ---------------------------------------------------------------- manifest and summary


def test_the_manifest_is_replaced_whole(new_run: NewRun) -> None:
    run = new_run()
    finished = msgspec.structs.replace(run.manifest(), status="finished", environment={"limit": 2**70, "rate": 0.1})
    run.write_manifest(finished)
    assert RunDirectory.open(run.path).manifest() == finished
    text = run.manifest_path.read_text(encoding="utf-8")
    assert text.startswith('{\n  "schema_version": 1,')
    assert text.endswith("}\n")
    assert [path.name for path in run.path.iterdir() if path.name.endswith(".tmp")] == []


def test_a_manifest_that_cannot_be_encoded_leaves_the_old_one(new_run: NewRun) -> None:
    run = new_run()
    with pytest.raises(ArchiveError, match="plain data"):
        run.write_manifest(make_manifest(environment={"x": object()}))
    assert run.manifest() == make_manifest()


_REWRITE = """
import itertools, sys
from specdec_bench.archive import RunDirectory
import msgspec
run = RunDirectory.open(sys.argv[1])
manifest = run.manifest()
for i in itertools.count(int(sys.argv[2])):
    run.write_manifest(msgspec.structs.replace(manifest, error=str(i) * 20_000))
"""


def test_a_killed_writer_leaves_a_manifest_that_parses(new_run: NewRun) -> None:
    run = new_run()
    for attempt in range(5):
        before = run.manifest()
        # Each process counts from elsewhere, so that none can write what was there before it.
        process = start_python(_REWRITE, run.path, str((attempt + 1) * 1_000_000))
        deadline = time.monotonic() + 20
        while run.manifest() == before and time.monotonic() < deadline:
            pass
        until = time.monotonic() + 0.02 * attempt
        while time.monotonic() < until:
            RunDirectory.open(run.path)
        process.send_signal(signal.SIGKILL)
        process.wait()
        after = RunDirectory.open(run.path).manifest()
        assert after != before
        assert after.error is not None
        assert after.error == after.error[:7] * 20_000


def test_the_summary_comes_back(new_run: NewRun) -> None:
    run = new_run()
    with pytest.raises(ArchiveError, match="did not finish"):
        run.summary()
    summary = summarize([], run.manifest())
    run.write_summary(encode(summary))
    assert run.summary() == summary
    for broken in (b"[]", b"{}", json.dumps(as_tree(summary) | {"latency": 1}).encode()):
        run.write_summary(broken)
        with pytest.raises(ArchiveError, match=r"summary\.json"):
            run.summary()


def test_a_full_disk_leaves_the_old_file(new_run: NewRun, monkeypatch: pytest.MonkeyPatch) -> None:
    run = new_run()
    run.write_summary(b"{}")

    def full(descriptor: int, data: bytes) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("specdec_bench.archive.files.write_all", full)
    with pytest.raises(ArchiveError, match="No space left"):
        run.write_summary(b'{"a": 1}')
    assert run.summary_path.read_bytes() == b"{}"
    assert not list(run.path.glob(".*.tmp"))


def test_the_last_manifest_fits_where_nothing_else_does(new_run: NewRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for it was reserved: a new file cannot even be made."""
    run = new_run()
    reserved = run.path / ".manifest.json.reserved"
    assert reserved.stat().st_size == run.manifest_path.stat().st_size + 8192

    def full(path: Path) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("specdec_bench.archive.files.create_exclusively", full)
    with pytest.raises(ArchiveError, match=r"manifest\.json: cannot be written: No space left"):
        run.write_manifest(make_manifest(environment={"hardware": "known by now"}))
    assert run.manifest().status == "started"
    last = make_manifest(status="failed", error="the disk is full")
    run.write_manifest(last)
    assert run.manifest() == last
    assert not reserved.exists()


def test_what_was_reserved_grows_with_the_manifest(new_run: NewRun) -> None:
    run = new_run()
    run.write_manifest(make_manifest(environment={"packages": "x" * 50_000}))
    assert (run.path / ".manifest.json.reserved").stat().st_size > 58_000
    run.write_manifest(make_manifest(status="finished"))
    assert run.manifest_path.stat().st_size < 8192  # not as long as what had been reserved
    assert run.manifest() == make_manifest(status="finished")


def test_prompts_that_do_not_fit_leave_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_atomically = files.write_atomically

    def full(path: Path, chunks: Iterable[bytes], **options: bool) -> None:
        if path.name == "prompts.jsonl":
            raise ArchiveError(f"{path}: cannot be written: No space left on device")
        write_atomically(path, chunks, **options)

    monkeypatch.setattr(files, "write_atomically", full)
    with pytest.raises(ArchiveError, match=r"prompts\.jsonl: cannot be written"):
        RunDirectory.create(tmp_path, make_manifest(), [make_prompt(0)], CONFIG_YAML)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------- requests and responses


def test_a_torn_last_line_is_left_out_wherever_it_was_cut(new_run: NewRun) -> None:
    run = new_run()
    data = write_requests(run, 3)
    start = data.rindex(b"\n", 0, len(data) - 1) + 1
    for cut in range(start, len(data) + 1):
        run.requests_path.write_bytes(data[:cut])
        is_whole = cut in (start, len(data))
        assert [record.request_id for record in run.requests()] == ["r0", "r1", "r2"][: 3 if cut == len(data) else 2]
        assert run.torn_lines() == (0 if is_whole else 1)


def test_a_file_of_only_a_torn_line_is_no_request(new_run: NewRun) -> None:
    run = new_run()
    run.requests_path.write_bytes(b"\x00\x00\x00")
    assert list(run.requests()) == []
    assert run.torn_lines() == 1
    run.requests_path.write_bytes(b"")
    assert list(run.requests()) == []
    assert run.torn_lines() == 0


@pytest.mark.parametrize("broken", [b"", b"{", b"{}", b"\xff", b'{"request_id": "\\ud800"}'])
@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_broken_line_is_named(new_run: NewRun, broken: bytes, number: int) -> None:
    run = new_run()
    lines = write_requests(run, 3).splitlines()
    lines[number - 1] = broken
    run.requests_path.write_bytes(b"\n".join(lines) + b"\n")
    read = []
    with pytest.raises(ArchiveError, match=rf"requests\.jsonl:{number}: broken line") as caught:
        read.extend(run.requests())
    assert "\n" not in str(caught.value)


def test_requests_are_read_one_at_a_time(new_run: NewRun) -> None:
    run = new_run()
    data = write_requests(run, 2)
    run.requests_path.write_bytes(data + b"broken\n")
    requests = run.requests()
    assert [next(requests).request_id, next(requests).request_id] == ["r0", "r1"]


def test_a_run_without_requests_is_empty_unless_it_finished(new_run: NewRun) -> None:
    run = new_run()
    assert list(run.requests()) == []
    assert list(run.responses()) == []
    assert run.torn_lines() == 0
    run.write_manifest(make_manifest(status="finished"))
    for read in (run.requests, run.responses):
        with pytest.raises(ArchiveError, match="missing, though the run finished"):
            list(read())


def test_a_finished_run_has_no_torn_line(new_run: NewRun) -> None:
    run = new_run(status="finished")
    data = write_requests(run, 2)
    assert len(list(run.requests())) == 2
    run.requests_path.write_bytes(data[:-1])
    with pytest.raises(ArchiveError, match=r"requests\.jsonl:2: cut off"):
        list(run.requests())


def test_torn_or_missing_prompts_are_refused(new_run: NewRun) -> None:
    run = new_run()
    run.prompts_path.write_bytes(run.prompts_path.read_bytes()[:-1])
    with pytest.raises(ArchiveError, match=r"prompts\.jsonl:1: cut off"):
        run.prompts()
    run.prompts_path.unlink()
    with pytest.raises(ArchiveError, match=r"no prompts\.jsonl"):
        run.prompts()


def test_responses_of_any_text_come_back(new_run: NewRun) -> None:
    run = new_run()
    responses = [
        Response(request_id=f"r{i}", prompt_id=f"p{i}", turn=1, repeat=2, text=text) for i, text in enumerate(HOSTILE)
    ]
    run.write_responses(responses)
    assert list(run.responses()) == responses
    lines = run.responses_path.read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["text"] for line in lines] == list(HOSTILE)
    assert list(json.loads(lines[0])) == ["request_id", "prompt_id", "turn", "repeat", "text"]
