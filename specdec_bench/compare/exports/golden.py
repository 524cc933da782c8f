"""Golden acceptance lengths: model -> thinking -> K -> length, as YAML.

The places of the lengths are those of InferenceX's `golden_al_distribution/*.yaml`; `_metadata` adds the intervals.
"""

from collections import defaultdict
from collections.abc import Sequence

import yaml

from specdec_bench.compare.exports.measured import LENGTH, MeasuredAcceptance
from specdec_bench.errors import ArchiveInputError
from specdec_bench.metrics.definitions import DEFINITIONS
from specdec_bench.records.canonical import canonical_json
from specdec_bench.records.json_types import Json
from specdec_bench.records.labels import run_labels
from specdec_bench.records.options import option

GOLDEN_VERSION = "specdec_bench/1"
OF_A_PLACE = ("spec.draft_length", "spec.num_draft_tokens", "model.chat_template_kwargs")
"""Fields that may differ between the cells of one model."""
OF_A_MODEL = (*OF_A_PLACE, "model.", "spec.draft.")
"""Fields that may differ between models."""
SWITCHES = ("enable_thinking", "thinking", "thinking_mode")
"""Arguments of chat templates that switch thinking on or off."""
ON, OFF = (True, "enabled", "on", "true"), (False, "disabled", "off", "false")


def golden_lengths(cells: Sequence[MeasuredAcceptance]) -> str:
    """Returns the acceptance lengths of all cells as YAML, with their 95% intervals under `_metadata`.

    Raises:
        ArchiveInputError: the cells differ in more than the model, thinking and K.
    """
    by_model: dict[str, list[MeasuredAcceptance]] = defaultdict(list)
    for cell in cells:
        by_model[run_labels(cell.manifest).model or "unknown"].append(cell)
    _refuse_differences(cells, OF_A_MODEL)
    lengths: dict[str, dict[str, dict[int, Json]]] = {}
    intervals: dict[str, dict[str, dict[int, Json]]] = {}
    for model, of_model in by_model.items():
        _refuse_differences(of_model, OF_A_PLACE)
        for cell in sorted(of_model, key=lambda cell: (_thinking_mode(cell), cell.draft_length)):
            place = lengths.setdefault(model, {}).setdefault(_thinking_mode(cell), {})
            if cell.draft_length in place:
                raise ArchiveInputError(
                    f"{cell.name}: is the second cell of {model} with {_thinking_mode(cell)} and {cell.draft_length} "
                    "drafts; export them one by one"
                )
            place[cell.draft_length] = cell.length.value
            ends: Json = [cell.length.low, cell.length.high]
            intervals.setdefault(model, {}).setdefault(_thinking_mode(cell), {})[cell.draft_length] = ends
    first = run_labels(cells[0].manifest)
    metadata = {
        "schema_version": GOLDEN_VERSION,
        "definition": f"{DEFINITIONS[LENGTH]}; the bonus token of the target is counted",
        "synthetic": sorted({cell.manifest.synthetic for cell in cells if cell.manifest.synthetic}),
        "method": first.spec,
        "engine": first.engine,
        "dataset": first.dataset,
        "sampling": cells[0].manifest.config.get("sampling"),
        "interval_95": intervals,
    }
    text: str = yaml.safe_dump({"_metadata": metadata, **lengths}, sort_keys=False, width=120)
    return text


def _refuse_differences(cells: Sequence[MeasuredAcceptance], allowed: tuple[str, ...]) -> None:
    """Refuses cells that are points of different curves.

    Raises:
        ArchiveInputError: naming the fields in which they differ.
    """
    names = sorted(set().union(*(cell.cell.fields for cell in cells)))
    for name in names:
        values = {canonical_json(cell.cell.fields.get(name)) for cell in cells}
        if len(values) > 1 and not name.startswith(allowed):
            told = sorted({str(cell.cell.fields.get(name)) for cell in cells})
            raise ArchiveInputError(
                f"{name}: the cells have {', '.join(told[:5])}, and one file has the lengths of one; give the folder "
                "of runs that differ in the model, thinking and the draft length alone"
            )


def _thinking_mode(cell: MeasuredAcceptance) -> str:
    """Returns whether the model thought, as far as the template's arguments tell."""
    arguments = option(cell.manifest.config, "model", "chat_template_kwargs")
    if not isinstance(arguments, dict):
        return "thinking_default"
    for name in SWITCHES:
        value = arguments.get(name)
        value = value.lower() if isinstance(value, str) else value
        if value in ON:
            return "thinking_on"
        if value in OFF:
            return "thinking_off"
    return "thinking_default"
