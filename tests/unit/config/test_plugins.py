"""What a plugin may declare. tests/integration/test_plugins.py installs and runs one."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from specdec_bench import datasets
from specdec_bench.config import plugins
from specdec_bench.config.plugins import Plugin
from specdec_bench.config.schema.dataset import DatasetConfig
from specdec_bench.config.support import archived_support
from specdec_bench.datasets import demo
from specdec_bench.errors import PluginError


@dataclass(kw_only=True)
class ToyDataset(DatasetConfig):
    name: str = "toy"


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        ({"options": {"dataset": {"demo": ToyDataset}}}, "dataset=demo exists already; choose another name"),
        (
            {"options": {"sampling": {"toy": ToyDataset}}},
            "options of the group sampling; it can add some to dataset, engine, load, spec",
        ),
        (
            {"options": {"dataset": {"toy": int}}},
            "dataset=toy: <class 'int'> must be a dataclass that derives from DatasetConfig",
        ),
        (
            {"modules": {"dataset": {"toy": "toy_bench"}}},
            "dataset=toy has a module and no dataclass; add it to options",
        ),
        ({"modules": {"spec": {"toy": "toy_bench"}}}, "modules of the group spec; there are some of dataset, load"),
        ({"engines": {"vllm": None}}, "engine=vllm needs both a dataclass in options and a row in engines"),
        ({"conf": Path("nowhere")}, "conf=nowhere: no such folder"),
    ],
)
def test_what_does_not_fit_is_one_line(declared: dict[str, Any], reason: str) -> None:
    with pytest.raises(PluginError) as refused:
        plugins._check("toy", Plugin(**declared))
    assert str(refused.value) == f"plugin toy: {reason}"


def test_a_file_that_is_there_already_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "dataset" / "demo.yaml"
    path.parent.mkdir()
    path.write_text("num_prompts: 1\n")
    with pytest.raises(PluginError) as refused:
        plugins._check("toy", Plugin(conf=tmp_path))
    assert str(refused.value) == f"plugin toy: {path}: dataset/demo.yaml exists already; choose another name"


def test_an_option_s_module_is_the_project_s_or_the_plugin_s(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plugins.import_option("dataset", "demo") is demo
    monkeypatch.setitem(plugins._modules, ("dataset", "toy"), "specdec_bench.datasets")
    assert plugins.import_option("dataset", "toy") is datasets


def test_an_archived_engine_that_is_not_known_does_what_most_do() -> None:
    assert archived_support({"engine": {"name": "toy"}}).synthetic_changes_outputs
    assert not archived_support({"engine": {"name": "synthetic"}}).synthetic_changes_outputs
