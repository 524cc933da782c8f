import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from specdec_bench.archive import RequestWriter, codec
from specdec_bench.errors import ArchiveError, RunInterrupted
from specdec_bench.records.request import RequestRecord
from tests.helpers.archive_samples import HOSTILE, make_request, start_python


def read(path: Path) -> list[RequestRecord]:
    decoder = msgspec.json.Decoder(RequestRecord)
    return [codec.decode(line, decoder) for line in path.read_bytes().split(b"\n")[:-1]]


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def test_ten_thousand_records_arrive_in_order(tmp_path: Path) -> None:
    records = [make_request(i) for i in range(10_000)]
    with RequestWriter(tmp_path / "requests.jsonl") as writer:
        for record in records:
            writer.append(record)
    assert read(tmp_path / "requests.jsonl") == records


def test_any_text_comes_back(tmp_path: Path) -> None:
    records = [make_request(i, prompt_id=text, category=text) for i, text in enumerate(HOSTILE)]
    with RequestWriter(tmp_path / "requests.jsonl") as writer:
        for record in records:
            writer.append(record)
    assert read(tmp_path / "requests.jsonl") == records


def test_a_record_is_on_disk_before_the_next_one_comes(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    with RequestWriter(path) as writer:
        for number in range(3):
            writer.append(make_request(number))
            wait_for(lambda number=number: len(read(path)) == number + 1)


def test_append_neither_encodes_nor_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    threads = []
    encode = codec.encode_line

    def spy(record: Any) -> bytes:
        threads.append(threading.current_thread())
        return encode(record)

    monkeypatch.setattr(codec, "encode_line", spy)
    with RequestWriter(tmp_path / "requests.jsonl") as writer:
        writer.append(make_request())
    assert len(threads) == 1
    assert threads[0] is not threading.current_thread()


def test_an_existing_file_is_never_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    path.write_bytes(b"evidence\n")
    with pytest.raises(ArchiveError, match="exists already"):
        RequestWriter(path)
    assert path.read_bytes() == b"evidence\n"


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="missing"):
        RequestWriter(tmp_path / "missing" / "requests.jsonl")


def test_a_closed_writer_takes_nothing(tmp_path: Path) -> None:
    writer = RequestWriter(tmp_path / "requests.jsonl")
    writer.close()
    writer.close()
    with pytest.raises(ArchiveError, match="r0 came after"):
        writer.append(make_request())


def on_full_disk(path: Path) -> RequestWriter:
    """Returns a writer whose descriptor is that of a device that is always full."""
    writer = RequestWriter(path)
    fill_disk(writer)
    return writer


def fill_disk(writer: RequestWriter) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, writer._descriptor)
    os.close(full)


def test_a_full_disk_surfaces_at_close(tmp_path: Path) -> None:
    writer = on_full_disk(tmp_path / "requests.jsonl")
    writer.append(make_request())
    for _ in range(2):
        with pytest.raises(ArchiveError, match=r"requests\.jsonl: requests are lost.*No space left") as caught:
            writer.close()
        assert isinstance(caught.value.__cause__, OSError)


def test_a_full_disk_surfaces_at_the_next_append_and_again_at_close(tmp_path: Path) -> None:
    writer = on_full_disk(tmp_path / "requests.jsonl")
    writer.append(make_request())
    wait_for(lambda: writer._error is not None)
    for _ in range(2):
        with pytest.raises(ArchiveError, match="No space left"):
            writer.append(make_request())
    with pytest.raises(ArchiveError, match="No space left"):
        writer.close()


def test_a_full_disk_surfaces_at_the_end_of_the_block(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="No space left"), on_full_disk(tmp_path / "requests.jsonl") as writer:
        writer.append(make_request())


def test_the_blocks_own_error_goes_on_with_the_full_disk_in_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def interrupted() -> None:
        with on_full_disk(tmp_path / "requests.jsonl") as writer:
            writer.append(make_request())
            raise RunInterrupted

    with pytest.raises(RunInterrupted):
        interrupted()
    assert "No space left" in caplog.text


def test_a_record_that_cannot_be_encoded_surfaces(tmp_path: Path) -> None:
    writer = RequestWriter(tmp_path / "requests.jsonl")
    writer.append(make_request(prompt_token_ids=(object(),)))
    with pytest.raises(ArchiveError, match="object"):
        writer.close()


_FILE_LIMIT = """
import resource, sys
from specdec_bench.archive import RequestWriter
from specdec_bench.errors import ArchiveError
from tests.helpers.archive_samples import make_request
resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))
writer = RequestWriter(sys.argv[1])
try:
    for number in range(1000):
        writer.append(make_request(number))
    writer.close()
except ArchiveError as error:
    try:
        writer.close()
    except ArchiveError:
        sys.exit(7)
"""


def test_after_the_disk_filled_up_the_line_that_did_not_fit_is_taken_back(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    assert start_python(_FILE_LIMIT, path).wait(60) == 7
    data = path.read_bytes()
    assert data.endswith(b"\n")
    # As many lines as there was room for: the next one, about as long as the last, had none.
    last = len(data) - data.rindex(b"\n", 0, -1) - 1
    assert 10_000 - last - 2 <= len(data) <= 10_000
    assert [record.request_id for record in read(path)] == [f"r{i}" for i in range(len(read(path)))]


def test_whoever_waits_is_told_of_a_full_disk_at_once(tmp_path: Path) -> None:
    told = threading.Event()
    writer = RequestWriter(tmp_path / "requests.jsonl", on_error=told.set)
    fill_disk(writer)
    writer.append(make_request())
    assert told.wait(10)
    with pytest.raises(ArchiveError, match="No space left"):
        writer.close()


def test_a_file_that_is_removed_while_it_is_written_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    writer = RequestWriter(path)
    path.unlink()
    writer.append(make_request())
    with pytest.raises(ArchiveError, match=r"requests\.jsonl: requests are lost.*was removed while it was written"):
        writer.close()


_KILLED = """
import os, signal, sys, time
from specdec_bench.archive import RequestWriter
from tests.helpers.archive_samples import make_request
writer = RequestWriter(sys.argv[1])
for number in range(100):
    writer.append(make_request(number))
time.sleep(1)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_was_written_survives_the_process(tmp_path: Path) -> None:
    path = tmp_path / "requests.jsonl"
    assert start_python(_KILLED, path).wait(60) == -signal.SIGKILL
    assert len(read(path)) == 100
