"""Makes the files that the bad inputs of tests/bad_inputs name."""

import gzip
import os
from pathlib import Path

import yaml

LISTS = Path(__file__).parents[1] / "bad_inputs"
HEADER = "# @package _global_\n"


def write_files(folder: Path) -> None:
    """Writes them below `folder`."""
    texts: dict[str, str] = yaml.safe_load((LISTS / "files.yaml").read_text(encoding="utf-8"))
    contents = {name: text.encode() for name, text in texts.items()} | {
        "utf16.jsonl": '{"prompt": "x"}\n'.encode("utf-16"),
        "latin1.jsonl": '{"prompt": "é"}\n'.encode("latin-1"),
        "nested.jsonl": b'{"prompt": ' + b"[" * 5000 + b"]" * 5000 + b"}\n",
        "garbage.parquet": b"PAR1xxxxPAR1",
        "archive.zip": b"PK\x03\x04" + gzip.compress(b"x"),
        "config_not_utf8/config.json": b"\xff\xfe",
        "weights_of_garbage/model.safetensors": b"\xff" * 20,
        "not_utf8/experiment/mine.yaml": b"\xff\xfe\x00",
        "nested/experiment/mine.yaml": f"{HEADER}expected:\n  source: {'[' * 2000}{']' * 2000}\n".encode(),
        "many_ids/experiment/mine.yaml": f"{HEADER}sampling:\n  stop_token_ids: {list(range(1025))}\n".encode(),
        "long_name/experiment/mine.yaml": f"{HEADER}model:\n  name: {'x' * 5000}\n".encode(),
    }
    for name, content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    os.mkfifo(folder / "fifo")
    (folder / "dangling").symlink_to(folder / "gone")


def placeholders(folder: Path) -> dict[str, str]:
    """Returns by name in braces what the lists have it stand for."""
    return {
        "files": str(folder),
        "long": "x" * 5_000,
        "megabyte": "x" * 1_000_000,
        "digits": "9" * 5_000,
        "name_of_300": "x" * 300,
        "ids": f"[{','.join(map(str, range(20_000)))}]",
        "brackets": "[" * 500 + "1" + "]" * 500,
    }
