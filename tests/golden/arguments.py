"""The exact arguments that each engine gets, for every method and every experiment, kept as reviewed files.

    python tests/golden/arguments.py            writes them anew; then read the difference

vLLM's are for the installed release, SGLang's and TensorRT-LLM's for those whose signatures lie in tests/stand_ins.
"""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hydra import compose as hydra_compose

from specdec_bench.config import compose
from specdec_bench.config.checkpoints import ASSETS, BUNDLED
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.config.support import ENGINES, check_support
from specdec_bench.engines.sglang import arguments as sglang_arguments
from specdec_bench.engines.tensorrt_llm import arguments as tensorrt_llm_arguments
from specdec_bench.engines.vllm import arguments as vllm_arguments
from specdec_bench.errors import SpecDecBenchError
from tests.helpers.composing import conf
from tests.stand_ins import signatures

TESTS = Path(__file__).resolve().parents[1]
FILES = TESTS / "golden"
COMMON = ("load.concurrency=16", "load.num_warmup=0")
NEEDED = {
    **{method: ["spec.draft.path=org/draft"] for method in ("eagle", "medusa", "dflash", "dspark")},
    "custom_class": ["spec.proposer=mine.Mine"],
}
"""By method, settings without which it does not compose. Placeholders: nothing is loaded."""


def vllm(config: ExperimentConfig) -> dict[str, Any]:
    """Returns the arguments of the installed vLLM's AsyncEngineArgs."""
    from vllm import __version__
    from vllm.config import SpeculativeConfig
    from vllm.engine.arg_utils import AsyncEngineArgs

    from specdec_bench.engines.vllm.adapter import _methods

    arguments = vllm_arguments.engine_arguments(config)
    if (speculative := arguments.get("speculative_config")) is not None:
        fields = [field.name for field in dataclasses.fields(SpeculativeConfig)]
        vllm_arguments.check_method(config.spec.name, _methods(), fields, speculative)
    return vllm_arguments.keep_known(
        arguments, [field.name for field in dataclasses.fields(AsyncEngineArgs)], __version__
    )


def sglang(config: ExperimentConfig) -> dict[str, Any]:
    """Returns the arguments of SGLang's ServerArgs."""
    classes = signatures.load("sglang.json")
    algorithms = [*classes["SpeculativeAlgorithm"]["members"], "NEXTN"]
    return sglang_arguments.engine_arguments(config, signatures.field_names(classes, "ServerArgs"), algorithms)


def tensorrt_llm(config: ExperimentConfig, llm_args: str = "TorchLlmArgs") -> dict[str, Any]:
    """Returns the arguments of TensorRT-LLM's LLM."""
    classes = signatures.load("tensorrt_llm.json")
    release = tensorrt_llm_arguments.Release(
        version="of the signatures",
        known=signatures.field_names(classes, llm_args),
        fields={n: signatures.field_names(classes, n) for n in tensorrt_llm_arguments.CLASSES if n in classes},
    )
    return tensorrt_llm_arguments.engine_arguments(config, release)


def auto_deploy(config: ExperimentConfig) -> dict[str, Any]:
    """Returns the arguments of AutoDeploy's LLM."""
    return tensorrt_llm(config, "LlmArgs")


ARGUMENTS: Mapping[str, Callable[[ExperimentConfig], dict[str, Any]]] = {
    "vllm": vllm,
    "sglang": sglang,
    "tensorrt_llm": tensorrt_llm,
    "auto_deploy": auto_deploy,
}


def cases() -> dict[str, tuple[str, list[str]]]:
    """Returns, by the name of its file, each pair's engine and overrides: the methods of the table, all experiments."""
    found = {}
    for engine in ARGUMENTS:
        for spec in ENGINES[engine].methods:
            found[f"{engine}/spec_{spec}"] = (engine, [f"spec={spec}", *NEEDED.get(spec, []), *COMMON])
        for path in sorted((compose.CONF / "experiment").glob("*.yaml")):
            found[f"{engine}/experiment_{path.stem}"] = (engine, [f"experiment={path.stem}"])
    follows = ["spec=eagle3", "spec.draft_length=5", "spec.draft_length_by_batch_size=[[1,4,5],[5,16,3],[17,256,0]]"]
    for engine in ("vllm", "sglang"):
        found[f"{engine}/draft_length_by_batch_size"] = (engine, [*follows, *COMMON])
    return found


def told(engine: str, overrides: list[str]) -> dict[str, Any]:
    """Returns what the engine gets, or with what words the pair is refused; no path of this machine is in it."""
    with conf():
        composed = hydra_compose("config", overrides=[*overrides, f"engine={engine}"])
    try:
        config = compose.experiment(composed)
        check_support(config)
        result = ARGUMENTS[engine](config)
    except SpecDecBenchError as error:
        result = {"refused": str(error)}
    plain: dict[str, Any] = json.loads(json.dumps(result).replace(f"{ASSETS}/", BUNDLED))
    return plain


if __name__ == "__main__":
    for name, (engine, overrides) in cases().items():
        file = FILES / f"{name}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(told(engine, overrides), indent=2, sort_keys=True) + "\n", encoding="utf-8")
