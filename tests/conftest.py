"""How the tests are shared out among processes (`pytest -n 2 --dist loadgroup`)."""

import pytest

VLLM = ("test_contract.py", "test_vllm.py", "test_vllm_faults.py")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keeps a file's tests, which share engines and sweeps, in one process, and all that start vLLM in the same one.

    Two vLLMs at a time would bind themselves to the same cores.
    """
    if not config.pluginmanager.hasplugin("xdist"):  # as in .venv-sglang
        return
    for item in items:
        item.add_marker(pytest.mark.xdist_group("vllm" if item.path.name in VLLM else item.path.stem))
