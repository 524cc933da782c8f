"""Which method and draft length is fastest at a load, if the runs support such a claim."""

from collections.abc import Mapping, Sequence

from specdec_bench.compare.cell import Measured, Recommendation, by_method
from specdec_bench.compare.labels import conditions, label
from specdec_bench.compare.row import Row
from specdec_bench.compare.speedup import Advice, NotJudged, recommend
from specdec_bench.errors import abbreviated


def recommend_method(
    plain: Mapping[int, Measured],
    measured: Mapping[int, Measured],
    rows: Mapping[int, Row],
    varying_fields: Sequence[str],
) -> Recommendation | None:
    """Returns which method and draft length is the fastest for one load, or why that is not judged; see `recommend`.

    Returns None if nothing was drafted. Nothing is judged if a candidate cannot be compared.
    """
    number = next((number for number, cell in measured.items() if not cell.is_plain), None)
    if number is None:
        return None
    methods = by_method(plain, measured)
    replicates = sorted(set.intersection(*map(set, methods.values()))) if methods else []
    candidates = {
        label(rows[next(iter(runs.values()))[0]], varying_fields): [
            runs[replicate][1].times for replicate in replicates
        ]
        for runs in methods.values()
    }
    same_baseline = [row for row in rows.values() if row["baseline_id"] == rows[number]["baseline_id"]]
    asked = {label(row, varying_fields) for row in same_baseline if row["spec"] != "none"}
    advice: Advice | NotJudged
    if not plain:
        advice = NotJudged(not_judged="there is no plain run; baseline=auto adds it")
    elif missing := sorted(asked - candidates.keys()):
        why = f"{abbreviated(missing)} cannot be compared with a plain run of the same number"
        advice = NotJudged(not_judged=why)
    else:
        advice = recommend([plain[replicate].times for replicate in replicates], candidates)
    load = ["engine", "model", "dataset", "concurrency", "load_axis", "load_value", *conditions(varying_fields)]
    return Recommendation(load={name: rows[number][name] for name in load}, advice=advice)
