"""TensorRT-LLM's AutoDeploy: the LLM API on models as transformers defines them."""

from specdec_bench.config.schema.engine import AutoDeployEngine
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.engines.tensorrt_llm.adapter import TensorRTLLMAdapter


def create(config: ExperimentConfig) -> "AutoDeployAdapter":
    """Returns the adapter, not yet started."""
    return AutoDeployAdapter(config)


class AutoDeployAdapter(TensorRTLLMAdapter):
    """One tensorrt_llm._torch.auto_deploy.LLM: the same requests, results and counts, another model and other names."""

    LLM = "tensorrt_llm._torch.auto_deploy.llm.LLM"
    LLM_ARGS = "tensorrt_llm._torch.auto_deploy.llm_args.LlmArgs"

    def _num_accelerators(self) -> int:
        assert isinstance(self._engine_config, AutoDeployEngine)
        return self._engine_config.world_size
