"""Outputs of a few tokens, compared."""

from specdec_bench.compare.losslessness import Sameness, compare, verdict

PROMPT = (9,)


def outputs(*token_ids: tuple[int, ...], prompt: tuple[int, ...] = PROMPT) -> dict:  # type: ignore[type-arg]
    return {(f"p{i}", 0, 0): (prompt, ids) for i, ids in enumerate(token_ids)}


def test_the_first_divergence_is_found() -> None:
    found = compare(outputs((1, 2, 3), (4, 5)), outputs((1, 7, 3), (4, 5)))
    assert (found.num_compared, found.num_identical, found.share_identical) == (2, 1, 0.5)
    (divergence,) = found.divergences
    assert (divergence.prompt_id, divergence.position) == ("p0", 1)
    assert (divergence.baseline_token, divergence.token) == (2, 7)
    assert (divergence.baseline_around, divergence.around) == ((1, 2, 3), (1, 7, 3))


def test_an_output_that_ends_early_diverges_where_it_ends() -> None:
    (divergence,) = compare(outputs((1, 2, 3)), outputs((1, 2))).divergences
    assert (divergence.position, divergence.baseline_token, divergence.token) == (2, 3, None)


def test_another_prompt_is_no_comparison() -> None:
    found = compare(outputs((1,)), outputs((1,), prompt=(8,)))
    assert (found.num_compared, found.num_prompts_differ, found.share_identical) == (0, 1, None)
    assert verdict(found, None) == "nothing compared"


def counts(identical: int, compared: int) -> Sameness:
    return Sameness(num_identical=identical, num_compared=compared, share_identical=None, num_prompts_differ=0)


def test_verdicts() -> None:
    assert verdict(counts(80, 80), None) == "identical"
    assert verdict(counts(79, 80), None) == "no control"
    assert verdict(counts(75, 80), counts(76, 80)) == "as control"
    assert verdict(counts(40, 80), counts(78, 80)) == "fewer than control"
