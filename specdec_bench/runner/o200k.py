"""Computes aa.json of an archived run: its replies, counted in tokens of o200k_base."""

from collections.abc import Callable

from specdec_bench.archive import RunDirectory, codec, files
from specdec_bench.archive.names import AA
from specdec_bench.errors import ConfigError, first_line
from specdec_bench.records.aa import AATiming


def load_token_counter() -> Callable[[str], int]:
    """Returns a function that counts a text's tokens.

    Raises:
        ConfigError: tiktoken is not installed, or its vocabulary is neither cached nor can it be fetched.
    """
    try:
        import tiktoken
    except ImportError:
        raise ConfigError("--aa: needs tiktoken; run: pip install 'specdec-bench[aa]'") from None
    from specdec_bench.metrics.aa import ENCODING

    try:
        encoding = tiktoken.get_encoding(ENCODING)
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"--aa: the vocabulary of {ENCODING} cannot be fetched: {first_line(error)}; set TIKTOKEN_CACHE_DIR to a "
            "folder in which tiktoken has cached it"
        ) from None
    return lambda text: len(encoding.encode_ordinary(text))


def write_aa(run: RunDirectory, count_tokens: Callable[[str], int]) -> AATiming:
    """Computes a run's rates, writes them to aa.json, and returns them.

    Raises:
        ArchiveError: the run cannot be read, or the file cannot be written.
    """
    from specdec_bench.metrics.aa import ReplyText, aa_timing

    replies = {reply.request_id: ReplyText(reply.text, reply.first_chunk_length) for reply in run.responses()}
    timing = aa_timing(run.manifest().run_id, run.requests(), replies, count_tokens)
    files.write_atomically(run.path / AA, [codec.encode_document(timing)])
    return timing
