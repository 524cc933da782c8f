"""How far two runs agree, on requests of a few tokens."""

from typing import Any

import pytest

from specdec_bench.records.manifest import Manifest
from specdec_bench.records.request import RequestError, RequestRecord, Step
from specdec_bench.runner.replay import MAX_LISTED, compare, environment_changes, must_be_identical
from tests.helpers import build

Steps = tuple[tuple[int, int | None, int | None], ...]
STEPS: Steps = ((1, 0, 0), (3, 3, 2), (1, 3, 0))


def request(
    prompt_id: str = "a", output: tuple[int, ...] = (5, 6, 7, 8, 9), steps: Steps = STEPS, **changes: Any
) -> RequestRecord:
    made = [
        Step(received_ns=i, num_tokens=tokens, num_proposed=proposed, num_accepted=accepted)
        for i, (tokens, proposed, accepted) in enumerate(steps)
    ]
    values = {"request_id": f"{prompt_id}/0/0", "prompt_id": prompt_id, "output_token_ids": output}
    return build.request(made, **(values | changes))


def test_equal_runs_are_identical() -> None:
    records = [request("a"), request("b", (1, 2, 3, 4, 5))]
    assert compare(records, list(reversed(records))) == {
        "num_compared": 2,
        "num_identical_outputs": 2,
        "num_identical_acceptance": 2,
        "num_only_in_original": 0,
        "num_only_in_replay": 0,
        "identical": True,
        "differences": [],
    }


def test_times_and_request_ids_are_no_difference() -> None:
    later = request(sent_ns=10**15, scheduled_ns=10**15, request_id="another")
    assert compare([request()], [later])["identical"]


@pytest.mark.parametrize(
    ("output", "position"),
    [
        ((4, 6, 7, 8, 9), 0),
        ((5, 6, 7, 8, 0), 4),
        ((5, 6, 7), 3),
        ((5, 6, 7, 8, 9, 10), 5),
        ((), 0),
        ((5, 0, 7, 0, 9), 1),
    ],
    ids=["first", "last", "shorter", "longer", "empty", "the first of several"],
)
def test_the_first_other_token_is_named(output: tuple[int, ...], position: int) -> None:
    found = compare([request()], [request(output=output)])
    assert (found["num_identical_outputs"], found["num_identical_acceptance"], found["identical"]) == (0, 1, False)
    assert found["differences"] == [{"prompt_id": "a", "turn": 0, "repeat": 0, "first_difference": position}]


@pytest.mark.parametrize(
    "steps",
    [((1, 0, 0), (3, 2, 2), (1, 3, 0)), ((1, 0, 0), (3, 3, 2), (1, 3, 1)), ((1, 0, 0), (4, 3, 3)), ((5, None, None),)],
    ids=["proposed", "accepted", "fewer steps", "merged"],
)
def test_equal_tokens_in_other_steps_differ_in_acceptance_alone(steps: Steps) -> None:
    found = compare([request()], [request(steps=steps)])
    assert (found["num_identical_outputs"], found["num_identical_acceptance"], found["identical"]) == (1, 0, False)
    assert found["differences"] == [{"prompt_id": "a", "turn": 0, "repeat": 0, "first_difference": None}]


def test_turns_and_repeats_are_compared_with_their_own() -> None:
    original = [request(output=(i,), turn=i % 2, repeat=i // 2) for i in range(4)]
    assert compare(original, list(reversed(original)))["identical"]
    swapped = [request(output=(i,), turn=i // 2, repeat=i % 2) for i in range(4)]
    found = compare(original, swapped)
    assert (found["num_compared"], found["num_identical_outputs"]) == (4, 2)


def test_requests_that_are_missing_are_not_passed_over() -> None:
    """Spec-Bench's `equal.py` zips two files and so passes when rows are missing."""
    found = compare([request("a"), request("b"), request("c")], [request("b"), request("d")])
    assert (found["num_compared"], found["num_identical_outputs"]) == (1, 1)
    assert (found["num_only_in_original"], found["num_only_in_replay"]) == (2, 1)
    assert found["identical"] is False
    assert compare([request("a")], [])["identical"] is False
    assert compare([], [request("a")])["identical"] is False


def test_what_did_not_finish_and_the_warm_up_are_not_compared() -> None:
    failed = request("f", (1,), error=RequestError(kind="engine_error", message="m"))
    warmup = request("a", (9, 9), phase="warmup")
    found = compare([warmup, request("a"), failed], [request("a")])
    assert found["identical"] is True
    assert (found["num_compared"], found["num_only_in_original"]) == (1, 0)


def test_a_request_that_failed_in_the_replay_alone_is_missing_there() -> None:
    failed = request("a", error=RequestError(kind="engine_error", message="m"))
    found = compare([request("a")], [failed])
    assert (found["num_compared"], found["num_only_in_original"], found["identical"]) == (0, 1, False)


def test_the_first_few_differences_are_listed_and_all_are_counted() -> None:
    original = [request(f"p{i:02}") for i in range(25)]
    replayed = [request(f"p{i:02}", (0, 0)) for i in range(25)]
    found = compare(original, replayed)
    assert (found["num_compared"], found["num_identical_outputs"]) == (25, 0)
    assert [row["prompt_id"] for row in found["differences"]] == [f"p{i:02}" for i in range(MAX_LISTED)]


# ---------------------------------------------------------------- what may differ


def manifest(engine: dict[str, Any] | None = None, temperature: float = 0.0, **environment: Any) -> Manifest:
    config = {"engine": {"name": "toy"}, "sampling": {"temperature": temperature}}
    return build.manifest(config=config, engine=engine or {}, environment=environment)


@pytest.mark.parametrize(
    ("engine", "temperature", "expected"),
    [
        ({"reproducible": True}, 0.0, True),
        ({"reproducible": True}, 0.7, False),
        ({"reproducible": False}, 0.0, False),
        ({}, 0.0, False),  # the engine never started
    ],
)
def test_greedy_decoding_on_a_reproducible_engine_must_repeat_exactly(
    engine: dict[str, Any], temperature: float, expected: bool
) -> None:
    assert must_be_identical(manifest(engine, temperature)) is expected


def test_what_changed_in_the_environment_is_listed_by_name() -> None:
    then = manifest(packages={"torch": "2.8", "numpy": "2.0"}, python="3.11", gpu=None)
    now = manifest(packages={"torch": "2.9", "numpy": "2.0", "vllm": "0.32"}, python="3.11")
    assert environment_changes(then, now) == {"packages.torch": ["2.8", "2.9"], "packages.vllm": [None, "0.32"]}
    assert environment_changes(then, then) == {}
