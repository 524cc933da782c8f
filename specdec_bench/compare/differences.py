"""What differs between archives in configuration, engine, checkpoints and environment, field by field."""

from collections.abc import Iterable, Mapping, Sequence

from msgspec import to_builtins

from specdec_bench.compare.pairing import Archive
from specdec_bench.records.canonical import canonical_json
from specdec_bench.records.flatten import flatten
from specdec_bench.records.manifest import Manifest
from specdec_bench.records.request import Record


class Difference(Record, frozen=True, kw_only=True):
    """A field that does not have the same values in all archives."""

    section: str
    """configuration, environment, checkpoints, dataset, project, or engine: what the engine made of it."""
    field: str
    """By dotted key."""
    values: tuple[tuple[object, ...], ...]
    """For each archive: the values that its runs have. Empty if they lack the field."""


def differences(archives: Sequence[Archive]) -> list[Difference]:
    """Returns the fields whose values differ, section by section."""
    of_archives = [[manifest for cell in archive.cells for manifest in cell.manifests] for archive in archives]
    engines = {_engine(manifest) for manifests in of_archives for manifest in manifests}
    found = []
    for section, read in _SECTIONS.items():
        if section == "engine" and len(engines) > 1:
            continue  # engines do not share the names of their settings
        values = [_values(map(read, manifests)) for manifests in of_archives]
        for name in dict.fromkeys(name for fields in values for name in fields):
            of_field = tuple(tuple(fields.get(name, {}).values()) for fields in values)
            if len({frozenset(fields.get(name, {})) for fields in values}) > 1:
                found.append(Difference(section=section, field=name, values=of_field))
    return found


def _values(trees: Iterable[Mapping[str, object]]) -> dict[str, dict[bytes, object]]:
    """Returns the different values of each field, by their encoding."""
    found: dict[str, dict[bytes, object]] = {}
    for fields in trees:
        for name, value in fields.items():
            found.setdefault(name, {}).setdefault(canonical_json(value), value)
    return found


def _configuration(manifest: Manifest) -> Mapping[str, object]:
    left_out = ("replicate", "load.arrivals")  # the latter has as many numbers as a trace has arrivals
    return {name: value for name, value in flatten(manifest.config).items() if name not in left_out}


def _checkpoints(manifest: Manifest) -> Mapping[str, object]:
    return {role: checkpoint.fingerprint for role, checkpoint in manifest.checkpoints.items()}


def _dataset(manifest: Manifest) -> Mapping[str, object]:
    names = ("sha256", "num_prompts", "num_turns")
    return _choose(to_builtins(manifest.dataset), names)


def _engine_settings(manifest: Manifest) -> Mapping[str, object]:
    names = ("arguments", "resolved", "max_seq_len", "num_accelerators", "synthetic")
    return flatten(_choose(to_builtins(manifest.engine), names))


def _choose(tree: Mapping[str, object], names: Sequence[str]) -> dict[str, object]:
    return {name: tree[name] for name in names if name in tree}


def _engine(manifest: Manifest) -> str:
    return canonical_json(flatten(manifest.config).get("engine.name")).decode()


def _environment(manifest: Manifest) -> Mapping[str, object]:
    return flatten(manifest.environment)


def _project(manifest: Manifest) -> Mapping[str, object]:
    return flatten(manifest.project)


_SECTIONS = {
    "configuration": _configuration,
    "dataset": _dataset,
    "checkpoints": _checkpoints,
    "engine": _engine_settings,
    "environment": _environment,
    "project": _project,
}
