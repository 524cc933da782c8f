import json
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from specdec_bench.checkpoints.fingerprint import NUM_WINDOWS, WHOLE_UP_TO_BYTES, WINDOW_BYTES, checkpoint_fingerprint
from specdec_bench.errors import ArchiveError
from specdec_bench.records.checkpoint import FileIdentity
from specdec_bench.records.prompts_hash import prompts_fingerprint
from tests.helpers.archive_samples import HOSTILE, make_prompt


def make_checkpoint(folder: Path) -> Path:
    (folder / "nested").mkdir(parents=True)
    (folder / "config.json").write_text('{"vocab_size": 256}')
    (folder / "tokenizer.json").write_text("{}")
    (folder / "chat_template.jinja").write_text("{{ messages }}")
    (folder / "modeling.py").write_text("pass\n")
    (folder / "model.safetensors").write_bytes(safetensors_header() + b"\x01" * 1000)
    (folder / "nested" / "adapter.bin").write_bytes(b"\x02" * 1000)
    return folder


def safetensors_header(name: str = "w") -> bytes:
    header = json.dumps({name: {"dtype": "U8", "shape": [1000], "data_offsets": [0, 1000]}}).encode()
    return len(header).to_bytes(8, "little") + header


def sha(folder: Path) -> str:
    return checkpoint_fingerprint("model", folder).fingerprint


def test_what_it_returns(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "model")
    result = checkpoint_fingerprint("owner/name", folder, "main")
    assert (result.path, result.revision, result.commit) == ("owner/name", "main", None)
    assert len(result.fingerprint) == 64
    assert list(result.files) == [
        "chat_template.jinja",
        "config.json",
        "model.safetensors",
        "modeling.py",
        "nested/adapter.bin",
        "tokenizer.json",
    ]
    plain = json.loads(msgspec.json.encode(result))
    assert list(plain) == ["path", "revision", "commit", "fingerprint", "files"]
    assert plain["files"]["tokenizer.json"] == {
        "size": 2,
        "sha256": "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a",  # of {}
    }
    assert str(tmp_path) not in json.dumps(plain)


def test_a_copy_a_move_and_a_touch_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_checkpoint(tmp_path / "model")
    before = sha(folder)
    os.utime(folder / "config.json", (0, 0))
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(folder, copy)
    assert sha(copy) == before
    folder.rename(tmp_path / "moved")
    assert sha(tmp_path / "moved") == before
    monkeypatch.chdir(tmp_path / "moved")
    assert sha(Path()) == before


def test_a_hub_snapshot_of_links_equals_the_plain_folder(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "model")
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "hub" / "models--owner--name" / "snapshots" / commit
    (snapshot / "nested").mkdir(parents=True)
    for file in folder.rglob("*.*"):
        (snapshot / file.relative_to(folder)).symlink_to(file)
    result = checkpoint_fingerprint("owner/name", snapshot)
    assert result.fingerprint == sha(folder)
    assert result.commit == commit


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "chat_template.jinja", "modeling.py", "model.safetensors"]
)
def test_any_change_differs(tmp_path: Path, name: str) -> None:
    folder = make_checkpoint(tmp_path / "model")
    seen = {sha(folder)}
    content = bytearray((folder / name).read_bytes())
    content[len(content) // 2] ^= 1
    (folder / name).write_bytes(content)
    seen.add(sha(folder))
    (folder / name).rename(folder / f"other{(folder / name).suffix}")
    seen.add(sha(folder))
    (folder / f"other{(folder / name).suffix}").unlink()
    seen.add(sha(folder))
    assert len(seen) == 4


@pytest.mark.parametrize(
    "name", ["README.md", "readme.txt", "NOTES.markdown", ".gitattributes", ".cache/x.json", "x.lock", "__pycache__/x"]
)
def test_what_does_not_count(tmp_path: Path, name: str) -> None:
    folder = make_checkpoint(tmp_path / "model")
    before = sha(folder)
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text("anything")
    assert sha(folder) == before


def sparse(path: Path, size: int, writes: dict[int, bytes], header: bytes = b"") -> None:
    with path.open("wb") as file:
        file.truncate(size)
        file.write(header)
        for offset, data in writes.items():
            file.seek(offset)
            file.write(data)


def test_a_large_file_is_sampled(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    size = 40 * 2**30
    header = safetensors_header()
    last = size - 1
    second_window = len(header) + (size - WINDOW_BYTES - len(header)) // (NUM_WINDOWS - 1)

    def entry(*args: Any) -> FileIdentity:
        sparse(path, *args)
        return checkpoint_fingerprint("m", tmp_path).files["model.safetensors"]

    plain = entry(size, {}, header)
    assert plain.sampled_sha256 is not None
    assert plain.sha256 is None
    assert plain == entry(size, {}, header)
    others = [
        entry(size, {len(header): b"\x01"}, header),
        entry(size, {last: b"\x01"}, header),
        entry(size, {second_window: b"\x01"}, header),
        entry(size, {second_window + WINDOW_BYTES - 1: b"\x01"}, header),
        entry(size, {}, safetensors_header("v")),
        entry(size + 1, {}, header),
    ]
    assert len({str(other) for other in [plain, *others]}) == 7
    # The limit that the documentation admits.
    assert entry(size, {second_window - 1: b"\x01"}, header) == plain


@pytest.mark.parametrize("header", [b"", b"\xff" * 8, (2**40).to_bytes(8, "little")])
@pytest.mark.parametrize("name", ["model.safetensors", "model.gguf"])
def test_a_large_file_that_is_no_safetensors_is_sampled_from_its_start(
    tmp_path: Path, name: str, header: bytes
) -> None:
    size = WHOLE_UP_TO_BYTES + 1
    sparse(tmp_path / name, size, {100: b"\x01"}, header)
    first = sha(tmp_path)
    sparse(tmp_path / name, size, {100: b"\x02"}, header)
    assert sha(tmp_path) != first


def test_whole_up_to_the_limit_and_text_beyond_it(tmp_path: Path) -> None:
    sparse(tmp_path / "model.bin", WHOLE_UP_TO_BYTES, {})
    sparse(tmp_path / "larger.bin", WHOLE_UP_TO_BYTES + 1, {})
    sparse(tmp_path / "tokenizer.json", WHOLE_UP_TO_BYTES + 1, {})
    files = checkpoint_fingerprint("m", tmp_path).files
    assert {name: entry.sha256 is not None for name, entry in files.items()} == {
        "model.bin": True,
        "larger.bin": False,
        "tokenizer.json": True,
    }


def test_a_link_to_a_folder_above_ends(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "model")
    before = sha(folder)
    (folder / "nested" / "loop").symlink_to(folder, target_is_directory=True)
    assert sha(folder) == before


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="missing"):
        checkpoint_fingerprint("m", tmp_path / "missing")
    (tmp_path / "README.md").write_text("")
    with pytest.raises(ArchiveError, match="holds no checkpoint"):
        checkpoint_fingerprint("m", tmp_path)
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "blob")
    with pytest.raises(ArchiveError, match=r"model\.safetensors: cannot be read .* No such file"):
        checkpoint_fingerprint("m", tmp_path)


def test_prompts() -> None:
    prompts = [make_prompt(0), make_prompt(1)]
    assert prompts_fingerprint(prompts) == prompts_fingerprint([make_prompt(0), make_prompt(1)])
    others = [
        [],
        prompts[:1],
        prompts[::-1],
        [make_prompt(0, category="math"), make_prompt(1)],
        [make_prompt(0, turns=("onetwo",)), make_prompt(1)],
        [make_prompt(0, system=""), make_prompt(1)],
        [make_prompt(0, max_new_tokens=1), make_prompt(1)],
        *([make_prompt(0, system=text)] for text in HOSTILE),
    ]
    assert len({prompts_fingerprint(other) for other in [prompts, *others]}) == len(others) + 1


def test_the_fingerprint_of_prompts_is_a_published_value() -> None:
    # sha256 of [{"category":"writing","prompt_id":"p0","turns":["one","two"]}]: changing it breaks old archives.
    expected = "92f46c96de2deceeef6712f2e2ee018af7c505a195ed74975a96102ca28f8061"
    assert prompts_fingerprint([make_prompt()]) == expected
