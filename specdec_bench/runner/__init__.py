"""Runs a cell: `cell` in the parent, `worker` in the child process that holds the engine and measures."""
