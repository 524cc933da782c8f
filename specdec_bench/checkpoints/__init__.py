"""What a checkpoint says without an engine: its files' facts, tokenizer and chat template; what these rule out."""
