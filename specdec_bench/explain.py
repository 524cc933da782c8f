"""Hydra's and OmegaConf's errors, of several lines and for programmers, as one line for users."""

import difflib
import re
import traceback

from hydra.errors import OverrideParseException

from specdec_bench.config import compose
from specdec_bench.config.compose import CONF

_REASONS = {
    "converted to Integer": "must be a whole number",
    "converted to Float": "must be a number",
    "not a valid bool": "must be true or false",
    "not a ListConfig": "must be a list, as in [1,2]",
    "does not support deletion": "can be set but not removed",
    "is not Optional": "must have a value; null is none",
    "NoneType is not a subclass": "null cannot be an entry",
}
"""What OmegaConf says of a value -> what to do about it."""

_EXTRAS = {
    ("hydra/launcher", "submitit_slurm"): "slurm",
    ("hydra/launcher", "submitit_local"): "slurm",
    ("hydra/launcher", "joblib"): "joblib",
    ("hydra/launcher", "ray"): "ray",
    ("hydra/sweeper", "optuna"): "optuna",
}
"""The plugins' own options, on which those of conf/hydra build -> what to install."""

_OPTION = r"'((?:hydra/)?[^'/]+)/([^']*)'"
"""A group and what is given for it, which may be empty or a path."""

_LIBRARIES = ("hydra.", "omegaconf.", "antlr4.", "yaml.")


def explain(error: Exception) -> str:
    """Returns Hydra's and OmegaConf's messages of several lines as one: what, the value, what to do."""
    if isinstance(error, OverrideParseException):
        return f"{error.override}: is no override; write KEY=VALUE, in quotes where VALUE has special characters"
    text, cause = str(error), error.__cause__
    if unknown := re.search(r"Could not override '(.*)'.*\n.* use \+(.*)", text):
        return _explain_unknown(getattr(cause, "full_key", None) or unknown[1], unknown[2])
    plugin = re.search(r"Could not (?:load|find) '([^']+)/([^'/]+)'", text)
    if plugin and (extra := _EXTRAS.get((plugin[1], plugin[2]))):
        return f"{plugin[1]}: its plugin is not installed; pip install 'specdec-bench[{extra}]'"
    if option := re.search(rf"Could not find {_OPTION}\s*Available options in '[^']+':\s*(.*)", text, re.S):
        choices = option[3].partition("Config search path")[0].split()
        group, name = option[1], option[2]
        return f"{group}={name}: no such option; choose one of {', '.join(choices)}{_suggest(name, choices)}"
    if there := re.search(r"An item is already at '(.*?)'|Multiple values for (\S+)\. ", text):
        return f"+{there[1] or there[2]}: is there already; leave out the +"
    if several := re.search(r"(?:argument|parameters) '(.*)'", text):
        return f"{several[1]}: several values; pass -m to run each of them, or write a list as [a,b]"
    reason = first_line(cause or error)
    if wrong := re.match(r"Error merging override (.*)", text):
        fixes = [fix for words, fix in _REASONS.items() if words in reason]
        return f"{wrong[1]}: {fixes[0] if fixes else reason}"
    return " ".join(text.split()) if cause is None else f"{first_line(error)}: {reason}"


def is_hydras_own(error: Exception) -> bool:
    """Whether Hydra or what it builds on raised it: it refuses some input by ValueError or RecursionError."""
    modules = [str(frame.f_globals.get("__name__", "")) for frame, _ in traceback.walk_tb(error.__traceback__)]
    # What recurses ends wherever the stack does, in a module of Python's own perhaps.
    ends_in = modules[-20:] if isinstance(error, RecursionError) else modules[-1:]
    return any(module.startswith(_LIBRARIES) for module in ends_in)


def _explain_unknown(key: str, override: str) -> str:
    """Returns what to say about an override of a field that is not there."""
    group, _, name = key.partition(".")
    fields = compose.known_fields(key)
    if fields is None or not name:
        groups = sorted(entry.name for entry in CONF.iterdir() if entry.is_dir() and entry.name != "hydra")
        groups += ["expected", "seed", "replicate", "baseline", "control", "order", "objective"]
        return f"{override}: no such field or group; there are {', '.join(groups)}{_suggest(group, groups)}"
    if name.split(".")[0] in fields:
        return f"{override}: the chosen {group} has no such field; --cfg job shows those that it has"
    return f"{override}: no such field; {group} has {', '.join(fields)}{_suggest(name, fields)}"


def _suggest(name: str, choices: list[str]) -> str:
    close = difflib.get_close_matches(name, choices, n=1)
    return f" (did you mean {close[0]}?)" if close else ""


def first_line(error: BaseException) -> str:
    """Returns the first line of its message; its type's name if it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
