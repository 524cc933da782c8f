"""How the tests are shared out among processes (`pytest -n 2`), longest first, and what each process spares itself."""

import gc
import json
import os
import sys
from collections import Counter
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

# Engines import thousands of modules in each of their processes. Where compiled modules are not kept, each process
# compiles them again, which takes longer than the tests.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

DURATIONS = Path(__file__).with_name("durations.json")
"""Seconds that each file took when they were last measured: `make durations`."""
UNKNOWN_S = 1.0
"""Of a file that has not been measured."""
SHORTEST_S = 1.0
"""Files that take less are not listed."""
ENGINES = "tests/engines/"
SGLANG = ("test_sglang.py", "test_sglang_drafters.py", "test_sglang_server.py")
VLLM = ("test_contract.py", "test_vllm.py", "test_vllm_drafters.py", "test_vllm_faults.py", "test_vllm_server.py")


def scope_of(nodeid: str) -> str:
    """Returns what is kept in one process: a file, whose tests share engines and sweeps, or all of vLLM's or SGLang's.

    Two vLLMs at a time would bind themselves to the same core, and SGLang's files compare the same sweep.
    """
    file = nodeid.partition("::")[0]
    name = file.removeprefix(ENGINES)
    return "vllm" if name in VLLM else "sglang" if name in SGLANG else file


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-durations", action="store_true", help=f"measures the files anew, into {DURATIONS.name}")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("--write-durations") and not hasattr(config, "workerinput"):
        config.pluginmanager.register(Durations(), "durations")


class Durations:
    """Adds up how long the tests of each scope take, in whichever process they run."""

    def __init__(self) -> None:
        self._seconds: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._seconds[scope_of(report.nodeid)] += report.duration

    def pytest_sessionfinish(self) -> None:
        long = {scope: round(seconds) for scope, seconds in self._seconds.items() if seconds >= SHORTEST_S}
        listed = sorted(long.items(), key=lambda pair: (-pair[1], pair[0]))
        DURATIONS.write_text(json.dumps(dict(listed), indent=2) + "\n", encoding="utf-8")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, Any, Any]:
    """Has collections of garbage leave out what is imported here: with torch, each would look through it for 0.3 s."""
    gc.disable()
    result = yield
    gc.freeze()
    gc.enable()
    return result


def pytest_sessionfinish() -> None:
    gc.unfreeze()  # so that pytest finds what was left open


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the scopes that take longest first, and leaves the tests of each in their order."""
    known = json.loads(DURATIONS.read_text(encoding="utf-8"))
    items.sort(key=lambda item: (-known.get(scope_of(item.nodeid), UNKNOWN_S), scope_of(item.nodeid)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keeps a scope in one process."""
    from xdist.scheduler import LoadScopeScheduling

    class ByScope(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return scope_of(nodeid)

    return ByScope(config, log)
