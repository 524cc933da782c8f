"""The command line as a user runs it, in a process of its own, with the engine that runs no model."""
