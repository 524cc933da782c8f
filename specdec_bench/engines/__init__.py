"""One file an engine, behind the protocol of `base`; `receive` times them all the same way."""
