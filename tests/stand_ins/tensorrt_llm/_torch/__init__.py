"""TensorRT-LLM's PyTorch backend."""
