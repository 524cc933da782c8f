"""TensorRT-LLM's LLM API and its AutoDeploy, in process."""
