"""model=smollm2_135m_q4_1 looks for its drafters where their training writes them."""

from pathlib import Path

import pytest
import train_smollm2

from specdec_bench.config.checkpoints import draft_checkpoint, resolve
from tests.helpers.composing import experiment


@pytest.mark.parametrize(("method", "folder"), [("draft_model", "draft"), ("eagle3", "eagle3")])
def test_the_defaults_of_the_training_are_the_models_paths(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str, folder: str
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    options = train_smollm2.create_parser().parse_args(["--questions", str(tmp_path)])
    config = experiment("engine=vllm", "model=smollm2_135m_q4_1", f"spec={method}")
    draft = draft_checkpoint(config)
    assert draft is not None
    assert Path(resolve(draft.path)) == options.out / folder
    assert Path(resolve(config.model.path)) == options.target
