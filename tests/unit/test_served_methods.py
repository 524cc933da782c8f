"""How benchmarks/served_methods.py compares a method behind a server with the method in process."""

from pathlib import Path
from typing import Any

import msgspec
from served_methods import compare

from specdec_bench.records.manifest import EngineDescription
from specdec_bench.records.request import RequestRecord
from tests.helpers.archive_samples import make_prompt
from tests.helpers.made_archives import plain, reply, steps_of, write_run

VLLM = EngineDescription(
    arguments={}, resolved={"vllm": "0.32.0"}, max_seq_len=None, num_accelerators=0, reproducible=False
)
PROMPTS = [make_prompt(number) for number in range(3)]


def write(folder: Path, method: str, *accepted: tuple[int, ...], **changes: Any) -> None:
    """Writes the runs of a method: three requests that accept so many drafts, and behind the server the same, changed.

    Args:
        changes: to each request behind the server, by its number: other fields.
    """
    direct = [reply(prompt, counts) for prompt, counts in zip(PROMPTS, accepted, strict=True)]
    served = [msgspec.structs.replace(record, **changes.get(f"r{at}", {})) for at, record in enumerate(direct)]
    as_run = plain if method == "none" else _unchanged
    for engine, records in (("vllm", direct), ("vllm_server", served)):
        write_run(folder / engine / method, [as_run(one) for one in records], PROMPTS, spec=method, engine=VLLM)


def _unchanged(record: RequestRecord) -> RequestRecord:
    return record


def test_requests_are_compared_with_plain_decoding_and_with_those_in_process(tmp_path: Path) -> None:
    counts = ((3, 1, 0), (2, 2, 0), (0, 1, 3))  # 8, 8 and 8 tokens with the prefill's
    write(tmp_path, "none", *counts)
    write(
        tmp_path,
        "ngram",
        *counts,
        r0={"steps": steps_of((1, 3, 0))},  # other steps
        r1={"steps": steps_of((2, 2, 1))},  # another last step alone
        r2={"output_token_ids": (1, 2, 3, 4, 5, 6, 7, 8)},  # another reply
    )
    none, ngram = compare(tmp_path, "vllm", ["ngram"])
    names = ("spec", "draft_length", "concurrency", "num_finished", "num_failed", "num_compared")
    assert none["engine_version"] == "0.32.0"
    assert [none[name] for name in names] == ["none", None, 1, 3, 0, 3]
    assert [ngram[name] for name in names] == ["ngram", 3, 1, 3, 0, 3]
    same = ("num_as_plain_decoding", "num_as_in_process", "num_same_steps")
    assert [none[name] for name in same] == [3, 3, 3]
    assert [ngram[name] for name in same] == [2, 2, 2]
