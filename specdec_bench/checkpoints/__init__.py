"""Reads a checkpoint's facts, tokenizer and chat template without an engine, and refuses settings they rule out."""
