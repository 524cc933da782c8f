"""The further methods on the real vLLM: with bundled drafters they accept more than chance, and all are lossless."""

import hashlib
import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest

from specdec_bench.archive import RunDirectory
from specdec_bench.config.checkpoints import ASSETS
from specdec_bench.records.checkpoint import StatedFacts
from tests.helpers.documents import DOCS
from tests.helpers.draft_steps import Replay, replay
from tests.helpers.drafters_in_torch import DRAFTERS as IN_TORCH
from tests.helpers.drafters_in_torch import DflashWithOneKeyNorm, Drafter
from tests.helpers.engine_sweeps import (
    COMMON,
    NEAR_TIE,
    ROOT,
    Cells,
    assert_outputs_are_those_of_plain_decoding,
    cells,
    command_line,
    requests,
    sweep,
)
from tests.helpers.llama_in_torch import Llama, read_checkpoint

pytestmark = pytest.mark.timeout(2400)  # seven engines start

VLLM = ["engine=vllm", "engine.enforce_eager=true", *COMMON]
METHODS = ("eagle", "medusa", "dflash", "suffix")
OWN_TARGET = "mtp"
"""It drafts with layers of the target, of which the bundled one has none."""
PARALLEL = {"eagle3": "peagle", "draft_model": "pard"}
"""Methods with a drafter of their own for `spec.parallel_drafting=true`."""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunDirectory]:
    """One run by drafter, K=3."""
    folder = tmp_path_factory.mktemp("drafters")
    found = dict(zip(METHODS, sweep(folder, *VLLM, f"spec={','.join(METHODS)}"), strict=True))
    for method, drafter in PARALLEL.items():
        own = folder / drafter
        own.mkdir()
        parallel = "spec.parallel_drafting=true"
        done = command_line(own, "-m", *VLLM, f"spec={method}", parallel, "hydra.sweep.dir=sweep")
        assert done.returncode == 0, done.stderr[-2000:]
        (found[drafter],) = cells(own)
    own = folder / CUSTOM
    own.mkdir()
    (own / "my_drafter.py").write_text(SUCCESSOR, encoding="utf-8")
    (found[CUSTOM],) = sweep(own, *VLLM, f"spec={CUSTOM}", "spec.proposer=my_drafter.Successor")
    target = folder / "mimo"
    subprocess.run([sys.executable, str(ROOT / "training" / "mtp.py"), str(target)], check=True)
    own = folder / OWN_TARGET
    own.mkdir()
    chosen = ["model=custom", f"model.path={target}", f"spec={OWN_TARGET}", "spec.draft_length=3"]
    (found[OWN_TARGET],) = sweep(own, *VLLM, *chosen)
    return found


CUSTOM = "custom_class"
SUCCESSOR = (DOCS / "engines" / "vllm.md").read_text(encoding="utf-8").partition("```python\n")[2].partition("```")[0]
"""The class that the documentation shows."""
DRAFTERS = ("eagle", "medusa", "dflash", *PARALLEL.values())
"""They draft with a checkpoint of their own."""
TRAINED = (*DRAFTERS, "mtp")
ALL = (*TRAINED, "suffix", CUSTOM)


def card(drafter: str) -> dict[str, dict[str, list[float]]]:
    read: dict[str, dict[str, list[float]]] = json.loads(
        (Path(ASSETS) / "tiny" / drafter / "acceptance.json").read_text()
    )
    return read


@pytest.mark.parametrize("drafter", TRAINED)
def test_it_accepts_more_than_random_weights_would(runs: dict[str, RunDirectory], drafter: str) -> None:
    joint = runs[drafter].summary().acceptance.pooled.acceptance_joint
    assert joint[0] is not None
    assert joint[0] > card(drafter)["random_weights"]["interval_95"][1]
    assert card(drafter)["trained"]["interval_95"][0] > card(drafter)["random_weights"]["interval_95"][1]


@pytest.mark.parametrize("drafter", DRAFTERS)
def test_the_manifest_names_the_drafter_and_the_model_runner(runs: dict[str, RunDirectory], drafter: str) -> None:
    manifest = runs[drafter].manifest()
    facts = manifest.checkpoints["draft"].facts
    assert isinstance(facts, StatedFacts)
    assert facts.drafter is not None
    assert facts.drafter.kind == drafter
    assert manifest.engine.runner == "V1"  # V2 needs Triton, which has no CPU


def test_suffixes_that_occurred_before_are_drafted_and_accepted(runs: dict[str, RunDirectory]) -> None:
    pooled = runs["suffix"].summary().acceptance.pooled
    assert pooled.verify_steps < pooled.decode_steps, "a step without a match drafts nothing"
    assert 0 < pooled.accepted <= pooled.proposed < 8 * pooled.verify_steps, "a draft is no longer than its match"


def drafts_after(token_ids: list[int], k: int) -> list[int]:
    """Returns K drafts, each of which followed the last token where it last occurred; none after a new token."""
    ids = list(token_ids)
    for _ in range(k):
        before = [at for at in range(len(ids) - 1) if ids[at] == ids[-1]]
        if not before:
            return []
        ids.append(ids[before[-1] + 1])
    return ids[len(token_ids) :]


def test_a_class_of_the_users_own_drafts_step_for_step(runs: dict[str, RunDirectory]) -> None:
    steps = accepted = 0
    for record in requests(runs[CUSTOM]).values():
        tokens = [*record.prompt_token_ids, *record.output_token_ids]
        known = len(record.prompt_token_ids) + 1
        for step in record.steps[1:]:
            drafts, reply = drafts_after(tokens[:known], 3), tokens[known:]
            right = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(drafts, reply, strict=False))
            expected = len(list(right))
            assert step.num_accepted is not None
            assert min(step.num_accepted, len(reply)) == expected, (record.request_id, known)
            known, steps, accepted = known + step.num_tokens, steps + 1, accepted + expected
        assert known == len(tokens)
    pooled = runs[CUSTOM].summary().acceptance.pooled
    assert steps == pooled.decode_steps > pooled.verify_steps > 200, "a new token has no drafts"
    assert accepted > 50


def test_the_manifest_identifies_the_users_class(runs: dict[str, RunDirectory]) -> None:
    (name, file), *others = runs[CUSTOM].manifest().checkpoints["proposer"].files.items()
    assert (name, file.sha256, others) == ("my_drafter.py", hashlib.sha256(SUCCESSOR.encode()).hexdigest(), [])


@pytest.mark.parametrize("drafter", ALL)
def test_counts_are_the_engines_totals(runs: dict[str, RunDirectory], drafter: str) -> None:
    difference = runs[drafter].summary().acceptance.cross_check.difference
    assert (difference.verify_steps, difference.proposed, difference.accepted) == (0, 0, 0)


@pytest.mark.parametrize("drafter", ALL)
def test_outputs_are_those_of_plain_decoding(
    runs: dict[str, RunDirectory], vllm_in_process: Cells, drafter: str
) -> None:
    assert_outputs_are_those_of_plain_decoding(runs[drafter], vllm_in_process["none", 1])


def replay_in_torch(run: RunDirectory, name: str, drafter: type[Drafter]) -> Replay:
    target = Llama(read_checkpoint("target"))
    return replay(drafter(read_checkpoint(name), target), target, requests(run).values(), k=3)


def assert_steps_agree(run: RunDirectory, name: str, drafter: type[Drafter]) -> None:
    """Each verify step accepted as many drafts as plain torch makes there, but for at most 5% where two tokens tie."""
    steps, mismatches = replay_in_torch(run, name, drafter)
    assert steps > 200
    assert len(mismatches) <= 0.05 * steps, mismatches
    assert all(mismatch.gap < NEAR_TIE for mismatch in mismatches), mismatches


@pytest.mark.parametrize("drafter", TRAINED)
def test_each_step_accepts_what_plain_torch_drafts(runs: dict[str, RunDirectory], drafter: str) -> None:
    assert_steps_agree(runs[drafter], drafter, DflashWithOneKeyNorm if drafter == "dflash" else IN_TORCH[drafter])


@pytest.mark.parametrize(("method", "drafter"), [("draft_model", "draft"), ("eagle3", "eagle3")])
def test_so_do_the_first_two_methods(vllm_in_process: Cells, method: str, drafter: str) -> None:
    assert_steps_agree(vllm_in_process[method, 1], drafter, IN_TORCH[drafter])


def test_dflash_on_a_cpu_is_not_what_its_paper_says(runs: dict[str, RunDirectory]) -> None:
    """Where this fails, vLLM has mended its key norm: expect `Dflash` above and drop `DflashWithOneKeyNorm`."""
    steps, mismatches = replay_in_torch(runs["dflash"], "dflash", IN_TORCH["dflash"])
    assert len(mismatches) > 0.05 * steps
