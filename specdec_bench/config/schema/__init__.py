"""The experiment, typed: one dataclass for each option of each config group.

Hydra merges the YAML of conf/ into these, so a misspelt key or a wrong type fails while the experiment is
composed; when the composed experiment becomes objects, `__post_init__` checks the bounds that stand beside
each field, and what fields say together. Nothing here imports an engine.
"""
