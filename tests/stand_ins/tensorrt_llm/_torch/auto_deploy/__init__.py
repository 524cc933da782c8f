"""TensorRT-LLM's AutoDeploy."""
