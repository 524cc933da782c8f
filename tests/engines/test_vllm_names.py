"""What the adapter takes from the installed vLLM is as the project says; no engine starts."""

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from specdec_bench.config.schema.engine import VLLMEngine
from specdec_bench.config.schema.model import ModelConfig
from specdec_bench.engines.base import create
from specdec_bench.engines.vllm import arguments
from specdec_bench.errors import EngineError
from tests.helpers import build
from tests.helpers.engine_runs import TARGET


def test_the_words_are_those_of_the_installed_vllm() -> None:
    """Every word that SpeculativeConfig looks for in a path, and every method for which it does not look."""
    from vllm.config import speculative

    text = Path(speculative.__file__).read_text(encoding="utf-8")
    words = re.findall(r'"([\w-]+)" in self\.draft_model_config\.model\.lower\(\)', text)
    assert words == list(arguments.METHODS_BY_NAME)
    (kept,) = re.findall(r"if self\.method in \(([^)]*)\):\n +pass", text)
    assert {*arguments.METHODS_THAT_KEEP_THEIR_NAME, "dspark"} == set(re.findall(r"\w+", kept))


@pytest.mark.filterwarnings("default")  # vLLM's own packages warn while they are imported
def test_in_process_the_defaults_are_those_of_vllms_server(monkeypatch: pytest.MonkeyPatch) -> None:
    """They depend on the accelerator's memory and on who starts the engine; on a CPU they happen to be the same."""
    from vllm.engine.arg_utils import EngineArgs
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    tokens: dict[UsageContext | None, int] = {UsageContext.LLM_CLASS: 9000, UsageContext.OPENAI_API_SERVER: 8900}
    monkeypatch.setattr(EngineArgs, "get_batch_defaults", lambda *_: (tokens, dict.fromkeys(tokens, 64)))
    resolved: list[Any] = []

    def stop(config: Any, **_: Any) -> None:
        resolved.append(config)
        raise RuntimeError("enough")

    monkeypatch.setattr(AsyncLLM, "from_vllm_config", stop)
    config = build.experiment(
        engine=VLLMEngine(max_num_seqs=16), model=ModelConfig(name="tiny", path=TARGET, dtype="float32")
    )
    with pytest.raises(EngineError, match="enough"):
        asyncio.run(create(config).start())
    assert resolved[0].scheduler_config.max_num_batched_tokens == 8900
