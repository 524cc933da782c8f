"""Writes Hydra's own files in place of Hydra, without the secrets that they contain.

Every process that runs a cell imports this module. The import makes Hydra save through it, and removes secrets from
log records.
"""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar, cast

import hydra.core.utils
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from specdec_bench.archive import files, secrets
from specdec_bench.archive.names import CONFIG
from specdec_bench.archive.redact import known, learn, learn_arguments, redact, redact_overrides, redacted_record
from specdec_bench.archive.secrets import REDACTED, is_secret_key
from specdec_bench.errors import ArchiveError

T = TypeVar("T")


def learn_composed(composed: DictConfig | ListConfig) -> None:
    """Learns the secrets of Hydra's tree: values under secret keys, and values that interpolate a secret variable."""
    _learn_container(composed, is_secret=False)
    if isinstance(composed, ListConfig):
        return
    for name in ("task", "hydra"):
        if given := OmegaConf.select(composed, f"hydra.overrides.{name}"):
            learn_arguments(OmegaConf.to_container(given, resolve=False))  # type: ignore[arg-type]


def _learn_container(container: DictConfig | ListConfig, *, is_secret: bool) -> None:
    for key in range(len(container)) if isinstance(container, ListConfig) else list(container):
        try:
            value = container[key]
        except OmegaConfBaseException:  # it has no value, or one that only a job has
            value = None
        is_secret_here = is_secret or is_secret_key(key)
        if OmegaConf.is_interpolation(container, key):
            _learn_interpolation(OmegaConf.to_container(container, resolve=False)[key], value, is_secret_here)  # type: ignore[index]
        elif isinstance(value, DictConfig | ListConfig):
            _learn_container(value, is_secret=is_secret_here)
        else:
            learn({"secret": value} if is_secret_here else value)


def _learn_interpolation(raw: str, value: object, is_secret: bool) -> None:
    """Learns an interpolation: its value is secret if its key is, or if it refers to a secret variable."""
    names, defaults = secrets.secret_interpolations(raw)
    known().add(defaults)
    if isinstance(value, DictConfig | ListConfig):
        try:
            value = OmegaConf.to_container(value, resolve=True)
        except OmegaConfBaseException:
            return
    variables = [os.environ[name] for name in names if name in os.environ]
    known().add(variables)
    if is_secret and (name := secrets.referred_variable(raw)) and isinstance(value, str):
        known().variables.setdefault(value, name)
    for leaf in secrets.leaves(value):
        if is_secret or (names and not any(variable in leaf for variable in variables)):
            known().add([leaf])
        else:
            learn(leaf)


def redacted_yaml(tree: DictConfig | ListConfig) -> bytes:
    """Returns a Hydra tree as YAML without secrets; interpolations stay unresolved."""
    before = OmegaConf.to_container(tree, resolve=False)
    after = _redact_hydra(before)
    return OmegaConf.to_yaml(tree if after == before else OmegaConf.create(after)).encode()


def save_config(cfg: DictConfig | ListConfig, filename: str, output_dir: Path) -> None:
    """Writes a file of `.hydra` in place of Hydra, which would put secrets on the disk.

    Raises:
        OSError: it cannot be written.
    """
    if filename == CONFIG:  # the first file of a job
        learn_composed(HydraConfig.instance().cfg)  # type: ignore[arg-type]
        learn_composed(cfg)
    output_dir.mkdir(parents=True, exist_ok=True)
    files.write_atomically(output_dir / filename, [redacted_yaml(cfg)])


def redact_yaml(path: Path) -> None:
    """Redacts a YAML file that a sweeper wrote, in place. A file without secrets stays unchanged.

    Raises:
        ArchiveError: it cannot be read or written, and may still hold a secret.
    """
    try:
        # Interpolations and `???` stay unresolved: the file records what was asked for, not the result.
        before = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
        after = _redact_hydra(before)
        if after != before:
            files.write_atomically(path, [OmegaConf.to_yaml(OmegaConf.create(after)).encode()])
    # OmegaConf's and YAML's errors have no common base.
    except Exception as error:
        raise ArchiveError(f"{path}: cannot be redacted: {error}; delete it before passing the run on") from error


def _redact_hydra(document: T) -> T:
    """Returns a Hydra document without secrets. Overrides occur in it in lists, and again inside other strings."""
    replacements = {
        raw: redacted
        for overrides in _override_lists(document, is_overrides=isinstance(document, list))
        for raw, redacted in zip(overrides, redact_overrides(overrides), strict=True)
        if raw != redacted
    }
    return redact(cast(T, _replace(document, replacements)))


def _override_lists(value: object, is_overrides: bool) -> Iterator[list[str]]:
    """Yields the lists below a key `overrides`; overrides.yaml is such a list itself."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _override_lists(item, is_overrides or key == "overrides")
    elif isinstance(value, list) and is_overrides:
        yield [item for item in value if isinstance(item, str)]


def _replace(value: object, replacements: dict[str, str], key: object = None) -> object:
    """Returns the value with each override replaced wherever it stands, as in folder names made of overrides."""
    if isinstance(value, dict):
        return {name: _replace(item, replacements, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_replace(item, replacements) for item in value]
    if not isinstance(value, str):
        return value
    for raw, redacted in replacements.items():
        value = value.replace(raw, redacted)
    if key == "override_dirname" and replacements and REDACTED not in value:
        # Its separators differ from those of the overrides, so the secret part cannot be identified.
        return REDACTED
    return value


hydra.core.utils._save_config = save_config
logging.setLogRecordFactory(redacted_record)
