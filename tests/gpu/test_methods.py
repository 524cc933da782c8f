"""Every method on the real vLLM and SGLang on a GPU, where they run in bfloat16: `pytest -m gpu tests/gpu -k vllm`.

The bundled models, K=3, 50 requests of the demo, 1 in flight. `--basetemp` keeps the runs.
"""

import subprocess
import sys
from pathlib import Path

import pytest

from specdec_bench.archive import RunDirectory
from tests.helpers.draft_and_verify import GreedyModel
from tests.helpers.draft_steps import draft_anew
from tests.helpers.drafters_in_torch import DRAFTERS, Drafter, DraftModelWithoutTheFirstToken, MtpAfterTheNorm
from tests.helpers.engine_runs import TARGET, raw_model
from tests.helpers.engine_sweeps import ROOT, cells, first_difference, pooled, requests
from tests.helpers.llama_in_torch import Llama, read_checkpoint

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]

ENGINES: dict[str, list[str]] = {
    "vllm": ["engine.enforce_eager=true", "engine.gpu_memory_utilization=0.5"],
    "sglang": ["engine.attention_backend=triton", "engine.sampling_backend=pytorch", "engine.enforce_eager=true"],
}
COMMON = ["model.dtype=bfloat16", "sampling.max_new_tokens=64", "load.num_warmup=4"]
NUM_REQUESTS = 50
LOOKUPS = {"vllm": ("ngram", "ngram_gpu"), "sglang": ("ngram",)}
PARALLEL = {"pard": "draft_model", "peagle": "eagle3"}
METHODS: dict[str, list[str]] = {
    "vllm": ["draft_model", "eagle3", "eagle", "medusa", "dflash", "dspark", *PARALLEL, "mtp"],
    "sglang": ["draft_model", "eagle3", "eagle", "dflash", "dspark", "mtp"],
}
FOLDERS = {"draft_model": "draft"}
"""The bundled folder, if its name is not the method's."""
IN_TORCH: dict[str, dict[str, type[Drafter]]] = {
    "vllm": DRAFTERS,
    "sglang": DRAFTERS | {"draft": DraftModelWithoutTheFirstToken, "mtp": MtpAfterTheNorm},
}
CASES = [(engine, method) for engine in ENGINES for method in METHODS[engine]]
OF_LOOKUPS = [(engine, method) for engine in ENGINES for method in LOOKUPS[engine]]
NEAR_TIE_BF16 = 0.5
"""Of logits up to 39, of which a unit of bfloat16's last place is 0.25."""


class Runs:
    """The finished run of each method, made when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[tuple[str, str], RunDirectory] = {}

    def of(self, engine: str, method: str) -> RunDirectory:
        if (engine, method) not in self._made:
            self._made[engine, method] = self._make(engine, method)
        return self._made[engine, method]

    def _make(self, engine: str, method: str) -> RunDirectory:
        folder = self._folder / engine / method
        folder.mkdir(parents=True)
        choice = [f"spec={PARALLEL.get(method, method)}"]
        choice += ["spec.parallel_drafting=true"] if method in PARALLEL else []
        choice += [] if method == "none" else ["spec.draft_length=3"]
        if method == "mtp":
            subprocess.run([sys.executable, str(ROOT / "training" / "mtp.py"), str(folder / "mimo")], check=True)
            choice += ["model=custom", f"model.path={folder / 'mimo'}"]
        arguments = ["-m", f"engine={engine}", *ENGINES[engine], *COMMON, *choice, "hydra.sweep.dir=sweep"]
        done = subprocess.run(
            [sys.executable, str(ROOT / "run.py"), *arguments], cwd=folder, capture_output=True, encoding="utf-8"
        )
        assert done.returncode == 0, done.stderr[-2000:]
        (run,) = cells(folder)
        return run


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Runs:
    return Runs(tmp_path_factory.mktemp("methods", numbered=False))


@pytest.mark.parametrize(("engine", "method"), CASES)
def test_a_drafter_accepts_as_much_as_in_plain_torch(runs: Runs, engine: str, method: str) -> None:
    """Within 3% on the same replies: the engine drafts in bfloat16, torch in float64."""
    run, folder = runs.of(engine, method), FOLDERS.get(method, method)
    target = Llama(read_checkpoint("target"))
    drafter = IN_TORCH[engine][folder](read_checkpoint(folder), target)
    counted = draft_anew(drafter, target, requests(run).values(), k=3)
    assert counted.steps > 500
    assert pooled(run).acceptance_length == pytest.approx(counted.acceptance_length, rel=0.03)


@pytest.mark.parametrize(("engine", "method"), OF_LOOKUPS)
def test_a_lookup_accepts_drafts(runs: Runs, engine: str, method: str) -> None:
    length = pooled(runs.of(engine, method)).acceptance_length
    assert length is not None
    assert 1.4 < length < 1.8


@pytest.mark.parametrize(("engine", "method"), [*CASES, *OF_LOOKUPS])
def test_outputs_differ_from_plain_decodings_only_where_two_tokens_all_but_tie(
    runs: Runs, engine: str, method: str
) -> None:
    found, plain = requests(runs.of(engine, method)), requests(runs.of(engine, "none"))
    assert found.keys() == plain.keys()
    assert len(found) == NUM_REQUESTS
    model = GreedyModel(raw_model(TARGET, "float64"))
    gaps = {}
    for request_id, record in found.items():
        other = plain[request_id]
        if record.prompt_token_ids == other.prompt_token_ids and record.output_token_ids != other.output_token_ids:
            at = first_difference(record.output_token_ids, other.output_token_ids)
            gaps[request_id] = model.gap((*record.prompt_token_ids, *record.output_token_ids[:at]))
    assert all(gap < NEAR_TIE_BF16 for gap in gaps.values()), gaps


@pytest.mark.parametrize(("engine", "method"), CASES)
def test_counts_are_the_engines_totals(runs: Runs, engine: str, method: str) -> None:
    """Where the engine has totals beside the requests' own counts."""
    check = runs.of(engine, method).summary().acceptance.cross_check
    if check.source is not None:
        difference = check.difference
        assert (difference.verify_steps or 0, difference.proposed or 0, difference.accepted or 0) == (0, 0, 0)
