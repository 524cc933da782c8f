"""What an error of somebody else's says in one line."""

import pydantic
import pytest

from specdec_bench.errors import first_line, named


class Settings(pydantic.BaseModel):
    length: int
    share: float


def refused(**values: object) -> Exception:
    with pytest.raises(pydantic.ValidationError) as caught:
        Settings(**values)  # type: ignore[arg-type]
    return caught.value


class OtherError(Exception):
    """Has something of pydantic's name that is something else."""

    def errors(self) -> int:
        return 3


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (KeyError("x"), "KeyError: 'x'"),
        (TimeoutError(), "TimeoutError: no message"),
        (RuntimeError("\n  out of pages\nin the second line"), "RuntimeError: out of pages"),
        (OtherError("as it is"), "OtherError: as it is"),
    ],
)
def test_the_kind_and_the_first_line(error: Exception, words: str) -> None:
    assert named(error) == words


def test_of_a_validation_error_the_reasons_and_not_their_number() -> None:
    assert first_line(refused(length="many", share=None)) == (
        "length: Input should be a valid integer, unable to parse string as an integer; "
        "share: Input should be a valid number"
    )
