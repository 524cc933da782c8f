"""SGLang, in process."""
