"""Which runs of two archives are compared with each other.

The runs of one cell are its replicates. Cells of two archives belong together if they agree in every field that
distinguishes cells within either archive. Two archives of one cell each are compared whatever they are.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from msgspec import UNSET

from specdec_bench.archive.layout import RunDirectory
from specdec_bench.compare.labels import label
from specdec_bench.records.canonical import canonical_json
from specdec_bench.records.flatten import flatten
from specdec_bench.records.labels import NO_PART_OF_RUN, run_labels
from specdec_bench.records.manifest import Manifest, label_of_load

Fields = Mapping[str, object]
"""An experiment by dotted key."""
REPLICATE = "replicate"
PATHS = {"target": "model.path", "draft": "spec.draft.path", "tokenizer": "model.tokenizer"}
"""By role of a checkpoint: the field that says where it lies. Cells are matched by what lies there."""
NAMED = ("spec.name", "spec.draft_length", "load.name", "engine.name", "model.name", "dataset.name")
"""Fields that a cell's name has without their key."""


@dataclass(frozen=True, kw_only=True)
class ArchivedCell:
    """The finished runs of one cell, in the order in which they were made."""

    fields: Fields
    """Of the first run."""
    runs: Sequence[RunDirectory]
    manifests: Sequence[Manifest]


@dataclass(frozen=True, kw_only=True)
class Archive:
    """What one argument of the command names."""

    path: str
    cells: Sequence[ArchivedCell]
    unfinished: Sequence[RunDirectory]


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A cell of the reference and its counterpart."""

    name: str
    reference: ArchivedCell
    other: ArchivedCell


@dataclass(frozen=True, kw_only=True)
class Match:
    """How the cells of two archives belong together."""

    pairs: Sequence[Pair]
    only_in_reference: Sequence[str]
    """Names of cells without a counterpart."""
    only_in_other: Sequence[str]


def read_archive(path: str, runs: Sequence[RunDirectory]) -> Archive:
    """Returns the cells of an archive's runs."""
    cells: dict[bytes, list[tuple[RunDirectory, Manifest]]] = defaultdict(list)
    unfinished = []
    for run in runs:
        manifest = run.manifest()
        if manifest.status == "finished":
            cells[canonical_json(cell_fields(manifest))].append((run, manifest))
        else:
            unfinished.append(run)
    found = []
    for of_cell in cells.values():
        of_cell.sort(key=lambda pair: (pair[1].created_utc, str(pair[0].path)))
        found.append(
            ArchivedCell(
                fields=cell_fields(of_cell[0][1]),
                runs=[run for run, _ in of_cell],
                manifests=[manifest for _, manifest in of_cell],
            )
        )
    return Archive(path=path, cells=found, unfinished=unfinished)


def cell_fields(manifest: Manifest) -> Fields:
    """Returns the fields of an experiment that its replicates share. Files are identified by their content."""
    fields = flatten(manifest.config)
    if manifest.dataset.sha256 is not UNSET:
        fields["dataset.path"] = manifest.dataset.sha256
    for role, name in PATHS.items():
        if role in manifest.checkpoints:
            fields[name] = manifest.checkpoints[role].fingerprint
    return {name: value for name, value in fields.items() if name != REPLICATE and not name.startswith(NO_PART_OF_RUN)}


def match_cells(reference: Archive, other: Archive) -> Match:
    """Returns which cells of two archives belong together."""
    if len(reference.cells) == len(other.cells) == 1:
        one, two = reference.cells[0], other.cells[0]
        return Match(
            pairs=[Pair(name=pair_name(one, two), reference=one, other=two)], only_in_reference=[], only_in_other=[]
        )
    names = sorted(_varying_fields(reference.cells) | _varying_fields(other.cells))
    by_key = {_key(cell.fields, names): cell for cell in other.cells}
    pairs, only_in_reference = [], []
    for cell in reference.cells:
        counterpart = by_key.pop(_key(cell.fields, names), None)
        if counterpart is None:
            only_in_reference.append(cell_name(cell, names))
        else:
            pairs.append(Pair(name=pair_name(cell, counterpart, names), reference=cell, other=counterpart))
    return Match(
        pairs=pairs,
        only_in_reference=only_in_reference,
        only_in_other=[cell_name(cell, names) for cell in by_key.values()],
    )


def _varying_fields(cells: Sequence[ArchivedCell]) -> set[str]:
    """Returns the fields that do not have the same value in all cells."""
    names = set().union(*(cell.fields for cell in cells))
    return {name for name in names if len({canonical_json(cell.fields.get(name)) for cell in cells}) > 1}


def _key(fields: Fields, names: Sequence[str]) -> bytes:
    return canonical_json([fields.get(name) for name in names])


def pair_name(one: ArchivedCell, other: ArchivedCell, varying: Sequence[str] = ()) -> str:
    """Returns the name of two cells: one, if they have the same."""
    names = [cell_name(cell, varying) for cell in (one, other)]
    return names[0] if names[0] == names[1] else " against ".join(reversed(names))


def cell_name(cell: ArchivedCell, varying: Sequence[str] = ()) -> str:
    """Returns a cell's method and load, and the other fields that distinguish it."""
    manifest = cell.manifests[0]
    labels, load, fields = run_labels(manifest), label_of_load(manifest), flatten(manifest.config)
    unnamed = [name for name in varying if name not in (*NAMED, f"load.{load.axis}", "load.arrivals")]
    spec = [name for name in unnamed if name.startswith("spec.")]
    row = {name: getattr(labels, name) for name in ("spec", "draft_length", "draft_lengths")}
    row |= {name: fields.get(name) for name in spec}
    groups = [str(fields[name]) for name in ("engine.name", "model.name", "dataset.name") if name in varying]
    others = [f"{name}={fields.get(name)}" for name in unnamed if name not in spec]
    return ", ".join([label(row, spec), load.text, *groups, *others])
