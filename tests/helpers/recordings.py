"""The recorded answers of real servers."""

from specdec_bench.engines.server.framing import ResponseParser
from tests.helpers.command_line import ROOT

FOLDER = ROOT / "tests" / "recordings"


def recorded(name: str) -> ResponseParser:
    """Returns an answer's parser, which has its status and headers. Its body is in `body_of`."""
    parser = ResponseParser()
    parser.feed((FOLDER / f"{name}.http").read_bytes())
    return parser


def body_of(name: str) -> bytes:
    """Returns the body of a recorded answer, as far as it came."""
    return ResponseParser().feed((FOLDER / f"{name}.http").read_bytes())
