"""How the tests are shared out among processes (`pytest -n 2`)."""

from typing import Any

import pytest

VLLM = ("test_contract.py", "test_vllm.py", "test_vllm_faults.py")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Keeps a file's tests, which share engines and sweeps, in one process, and all that start vLLM in the same one.

    Two vLLMs at a time would bind themselves to the same core.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return "vllm" if file.endswith(VLLM) else file

    return ByFile(config, log)
