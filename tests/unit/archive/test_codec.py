import json
import math
from pathlib import Path

import msgspec
import pytest

from specdec_bench.archive import codec
from specdec_bench.errors import ArchiveError
from specdec_bench.records.request import Prompt
from tests.helpers.archive_samples import HOSTILE, make_prompt, make_request

DECODER = msgspec.json.Decoder(Prompt)


@pytest.mark.parametrize("text", HOSTILE)
def test_any_text_is_one_line_for_every_reader_and_comes_back(text: str) -> None:
    prompt = make_prompt(turns=(text, text), system=text)
    line = codec.encode_line(prompt)
    assert line.endswith(b"\n")
    assert len(line.decode().splitlines()) == 1
    assert codec.decode(line, DECODER) == prompt
    assert json.loads(line)["turns"] == [text, text]


def test_every_code_point_comes_back() -> None:
    for start in range(0, 0x110000, 0x1000):
        # Reversed, so that no high surrogate stands before a low one.
        prompt = make_prompt(turns=("".join(chr(point) for point in reversed(range(start, start + 0x1000))),))
        line = codec.encode_line(prompt)
        assert len(line.decode().splitlines()) == 1
        assert codec.decode(line, DECODER) == prompt


def test_a_pair_of_surrogates_becomes_its_character() -> None:
    line = codec.encode_line(make_prompt(system="\ud83d\ude00"))
    assert codec.decode(line, DECODER).system == "\U0001f600"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        b"{",
        b"[]",
        b"null",
        b'{"prompt_id": 1, "category": "c", "turns": []}',
        b'{"category": "c", "turns": []}',
        b'{"prompt_id": "\xff", "category": "c", "turns": []}',
        b'{"prompt_id": "\\ud800", "category": "c", "turns": [1]}',
        b'{"prompt_id": "\\ud800", "category": "c", "turns": NaN}',
        b'{"prompt_id": "\\ud800", "category": "c", "turns": []',
        b'{"prompt_id": "\\ud800", "category": "c\xff", "turns": []}',
        b'{"prompt_id": "\\ud8", "category": "c", "turns": []}',
    ],
)
def test_what_is_not_the_record_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - two libraries, each with its own words
        codec.decode(data, DECODER)


def test_integers_are_exact() -> None:
    request = make_request(scheduled_ns=2**63 - 1, seed=2**64 - 1)
    decoder = msgspec.json.Decoder(type(request))
    assert codec.decode(codec.encode_line(request), decoder) == request


def test_a_document_is_for_people_and_hides_no_infinite_number() -> None:
    data = codec.encode_document({"a": [1.5, math.inf, -math.inf, (math.nan,)], "é": None})
    assert data.decode().startswith('{\n  "a": [\n    1.5,')
    assert data.endswith(b"}\n")
    assert json.loads(data) == {"a": [1.5, "Infinity", "-Infinity", ["NaN"]], "é": None}
    assert "é".encode() in data


def test_a_document_holds_any_text() -> None:
    assert json.loads(codec.encode_document({"texts": HOSTILE})) == {"texts": list(HOSTILE)}


def test_a_document_of_other_than_plain_data_is_refused() -> None:
    with pytest.raises(ArchiveError, match="PosixPath"):
        codec.encode_document({"path": Path("x")})
