"""Sweeps that are killed at random moments and gone on with: `make soak` runs sixty, and six on the real vLLM."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.helpers.command_line import CommandLine
from tests.helpers.kills import Kill, Undisturbed

SYNTHETIC = (
    "-m",
    "engine=synthetic",
    "spec=ngram",
    "spec.draft_length=1,2",
    "seed=1,2",
    "sampling=sampled",
    "sampling.max_new_tokens=32",
    "engine.step_time_ms=3",
    "load.repeats=4",
)
"""Four cells, two of them on each engine."""
VLLM = (
    "-m",
    "engine=vllm",
    "engine.enforce_eager=true",
    "model.dtype=float32",
    "spec=ngram",
    "seed=1,2",
    "sampling.max_new_tokens=48",
    "dataset=demo",
    "dataset.num_prompts=8",
    "load.repeats=2",
)
"""Two cells on one engine."""
VLLM_TIMEOUT_S = 600
SHORT = (3, 4, 8, 9, 10, 13)
"""SIGKILL of the parent, SIGTERM of the child, then each signal of the whole group, and one of the child's."""


@pytest.fixture(scope="module")
def synthetic(tmp_path_factory: pytest.TempPathFactory, environment: Mapping[str, str], prompts: Path) -> Undisturbed:
    command_line = CommandLine(tmp_path_factory.mktemp("undisturbed"), environment, prompts)
    return Undisturbed.run(command_line, *SYNTHETIC, "dataset=jsonl", f"dataset.path={prompts}")


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory, environment: Mapping[str, str], prompts: Path) -> Undisturbed:
    folder = tmp_path_factory.mktemp("undisturbed")
    return Undisturbed.run(CommandLine(folder, environment, prompts, VLLM_TIMEOUT_S), *VLLM)


@pytest.mark.parametrize("seed", SHORT)
def test_a_killed_sweep_goes_on(command_line: CommandLine, synthetic: Undisturbed, seed: int) -> None:
    synthetic.kill_and_resume(command_line, Kill.draw(seed))


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(60))
def test_sixty_kills(command_line: CommandLine, synthetic: Undisturbed, seed: int) -> None:
    kill = Kill.draw(100 + seed)
    print(kill, synthetic.kill_and_resume(command_line, kill))


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", [3, 0, 7, 11, 10, 5])
def test_six_kills_of_vllm(command_line: CommandLine, vllm: Undisturbed, seed: int) -> None:
    """SIGKILL of parent, child and group, SIGTERM of the parent, SIGHUP of the group, SIGINT of the child."""
    kill = Kill.draw(seed)
    print(kill, vllm.kill_and_resume(replace(command_line, timeout_s=VLLM_TIMEOUT_S), kill))
