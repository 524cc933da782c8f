"""The programs that come with TensorRT-LLM."""
