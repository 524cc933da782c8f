"""Turns Hydra's and OmegaConf's errors, several lines for programmers, into one line for users."""

import difflib
import re
import traceback
from collections.abc import Sequence

from hydra.errors import OverrideParseException
from omegaconf.errors import OmegaConfBaseException

from specdec_bench.config import compose, own_files
from specdec_bench.errors import first_line, first_line_of
from specdec_bench.sweep.settings import FIXED

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
"""The plugins' own options, which those of conf/hydra extend -> what to install."""

_LIBRARIES = ("hydra.", "omegaconf.", "antlr4.", "yaml.", "logging.config")


def explain(error: Exception, arguments: Sequence[str] = ()) -> str:
    """Returns an error of Hydra or OmegaConf as one line: the setting, its value, what to do.

    Args:
        error: theirs.
        arguments: the command line's, to name the wrong one if the error does not.
    """
    if isinstance(error, OverrideParseException):
        return f"{error.override}: is not an override; write KEY=VALUE, in quotes where VALUE has special characters"
    text, cause = str(error), error.__cause__
    if text.startswith("Unable to configure"):
        return f"hydra.job_logging: {first_line(error)}: {first_line(cause or error)}; correct it"
    inside = re.match(r"In '([^']+)': (.*)", text, re.S)
    if inside and inside[1] in own_files.loaded():
        return _explain_file(inside[1], inside[2])
    if "Config group override must be a string" in text:
        return _explain_group_value(arguments) or first_line(error)
    if re.search("in defaults|Invalid defaults", text) and (loaded := list(own_files.loaded().values())):
        return f"{loaded[-1][0]}: {first_line(error)}; write its defaults as - override /GROUP: NAME"
    if unknown := re.search(r"Could not override '(.*)'.*\n.* use \+(.*)", text):
        return _explain_unknown(getattr(cause, "full_key", None) or unknown[1], unknown[2])
    plugin = re.search(r"Could not (?:load|find) '([^']+)/([^'/]+)'", text)
    if plugin and (extra := _EXTRAS.get((plugin[1], plugin[2]))):
        return f"{plugin[1]}: its plugin is not installed; pip install 'specdec-bench[{extra}]'"
    if option := _explain_option(text):
        return option
    if there := re.search(r"An item is already at '(.*?)'|Multiple values for (\S+)\. ", text):
        return f"+{there[1] or there[2]}: exists already; leave out the +"
    if several := re.search(r"(?:argument|parameters) '(.*)'", text):
        return f"{several[1]}: several values; pass -m to run each of them, or write a list as [a,b]"
    reason = first_line(cause or error)
    if missing := re.match(r"Missing mandatory value: (\w+)$", reason):
        return f"{missing[1]}: has no option; choose one with {missing[1]}=NAME"
    if wrong := re.match(r"Error merging override (.*)", text):
        fixes = [fix for words, fix in _REASONS.items() if words in reason]
        return f"{wrong[1]}: {fixes[0] if fixes else reason}"
    if isinstance(cause, OmegaConfBaseException) and not text:
        return f"{cause.full_key or 'an override'}: {reason}"
    return " ".join(text.split()) if cause is None else f"{first_line(error)}: {reason}"


def _explain_file(name: str, text: str) -> str:
    """Returns the message for a file of the user's own that does not fit."""
    path, _ = own_files.loaded()[name]
    reason = text.split(" raised while composing config:\n")[-1]
    key = (re.search(r"full_key: (\S+)", text) or [None, ""])[1] or ""
    if re.match(r"Key '.*' not in '(Engine|Dataset|Spec|Load)Config'", reason):
        group = key.partition(".")[0]
        return f"{path}: {key}: no such field; begin it with 'defaults: [/schema/{group}/NAME@_here_, _self_]'"
    if re.match("Key '.*' not in ", reason):
        return f"{path}: {_explain_unknown(key, key)}"
    if option := _explain_option(text):
        return f"{path}: {option}"
    if group := re.match(r"Could not override '([^'@]+)(@[^']*)?'. No match in the defaults list", text):
        return f"{path}: override {group[1]}: no such group; write - override /GROUP: NAME, with the slash"
    if re.match(r"field '.*' is not Optional", reason) or reason.startswith("Merge error"):
        what = key or (re.search(r"value: (.*)", reason) or [None, "it"])[1]
        return f"{path}: {what}: is not what the field holds; a group is chosen by defaults: - override /GROUP: NAME"
    fixes = [fix for words, fix in _REASONS.items() if words in reason]
    return f"{path}: {key + ': ' if key else ''}{first_line_of(reason)}{'; it ' + fixes[0] if fixes else ''}"


def _explain_option(text: str) -> str | None:
    """Returns the message for an option that a group does not have, or None if the error has another cause."""
    option = re.search(r"Could not find '([^']*)'\s*Available options in '([^']+)':\s*(.*)", text, re.S)
    if option is None:
        return None
    choices = option[3].partition("Config search path")[0].split()
    group, name = option[2], option[1].removeprefix(f"{option[2]}/")
    return f"{group}={name}: no such option; choose one of {', '.join(choices)}{_suggest(name, choices)}"


def _explain_group_value(arguments: Sequence[str]) -> str | None:
    """Returns the message for a group that was given a number, null or a dictionary, or None if none was."""
    for argument in arguments:
        key, sign, value = argument.lstrip("+~").partition("=")
        name = key.partition("@")[0]
        is_group = "." not in name and ("/" in name or name in ("hydra", *compose.groups()))
        if sign and is_group and re.fullmatch(r"null|true|false|[-+.\d]\S*|\{.*\}", value, re.I):
            return f"{argument}: {name} is a group of options; choose one by its name, or leave it out"
    return None


def is_hydras_own(error: Exception) -> bool:
    """Whether Hydra or its libraries raised it. They refuse some input by ValueError or RecursionError."""
    return ends_in(error, *_LIBRARIES)


def ends_in(error: Exception, *modules: str) -> bool:
    """Whether it was raised in a module whose name begins with one of `modules`."""
    names = [str(frame.f_globals.get("__name__", "")) for frame, _ in traceback.walk_tb(error.__traceback__)]
    # A recursion ends where the stack is full, perhaps in a module of Python's own.
    last = names[-20:] if isinstance(error, RecursionError) else names[-1:]
    return any(name.startswith(modules) for name in last)


def _explain_unknown(key: str, override: str) -> str:
    """Returns the message for an override of a field that does not exist."""
    for setting, (_, instead) in FIXED.items():
        if key.startswith(f"hydra.{setting}"):
            return f"{override}: is not supported; {instead}"
    if re.match(r"hydra\b", key):
        return f"{override}: Hydra has no such setting; --cfg hydra shows those that it has"
    group, _, name = key.partition(".")
    fields = compose.known_fields(key)
    if fields is None or not name:
        groups = compose.groups()
        groups += ["expected", "slo", "cost", "capacity", "seed", "replicate"]
        groups += ["baseline", "control", "verbose", "order", "objective"]
        return f"{override}: no such field or group; there are {', '.join(groups)}{_suggest(group, groups)}"
    if name.split(".")[0] in fields:
        return f"{override}: the chosen {group} has no such field; --cfg job shows those that it has"
    return f"{override}: no such field; {group} has {', '.join(fields)}{_suggest(name, fields)}"


def _suggest(name: str, choices: list[str]) -> str:
    close = difflib.get_close_matches(name, choices, n=1)
    return f" (did you mean {close[0]}?)" if close else ""
