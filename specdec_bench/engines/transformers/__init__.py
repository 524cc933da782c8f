"""transformers' generate, in process."""
