"""summary.json: every figure of a run, a function of its requests and its manifest alone.

Shape: `requests` (finished, failed, skipped, interrupted, warmup, conversations), `acceptance` (source,
pooled, macro, macro_by_conversation, by_category), `latency`, `latency_by_category`, `throughput`,
`merged_chunks`, `merged_share`, `definitions`. Undefined is null.
"""

import json
from collections import defaultdict
from collections.abc import Hashable, Iterable
from typing import Any

from specdec_bench.metrics.acceptance import RequestAcceptance, figures, from_counters, macro, request_acceptance
from specdec_bench.metrics.definitions import DEFINITIONS
from specdec_bench.metrics.timing import Timings
from specdec_bench.records import SCHEMA_VERSION, Manifest, RequestRecord, Summary


def summarize(records: Iterable[RequestRecord], manifest: Manifest) -> Summary:
    """Returns the summary of one run. Warm-up is in no figure; failed requests are counted, in no other figure.

    Raises:
        ValueError: acceptance comes from different sources within the run, which no adapter may do.
    """
    requests = dict.fromkeys(("finished", "failed", "skipped", "interrupted", "warmup"), 0)
    counts: list[RequestAcceptance] = []
    categories: list[str] = []
    conversations: list[Hashable] = []
    sources = set()
    timings, timings_by_category = Timings(), defaultdict[str, Timings](Timings)
    for record in records:
        outcome = _outcome(record)
        requests[outcome] += 1
        if outcome != "finished":
            continue
        counts.append(request_acceptance(record))
        categories.append(record.category)
        conversations.append((record.prompt_id, record.repeat))
        sources.add(record.acceptance_source)
        timings.add(record)
        timings_by_category[record.category].add(record)
    if len(sources) > 1:
        raise ValueError(f"acceptance comes from several sources within one run: {sorted(map(str, sources))}")
    source = next(iter(sources), None)
    return {
        "schema_version": SCHEMA_VERSION,
        "run_id": manifest.run_id,
        "status": manifest.status,
        "partial": manifest.status != "finished",
        "synthetic": manifest.synthetic,
        "requests": {**requests, "conversations": len(set(conversations))},
        "acceptance": _acceptance(counts, categories, conversations, source, manifest),
        "latency": timings.latency(),
        "latency_by_category": {name: timings_by_category[name].latency() for name in sorted(timings_by_category)},
        "throughput": timings.throughput(
            manifest.config.get("load", {}).get("concurrency"), manifest.engine.get("num_accelerators") or 0
        ),
        "merged_chunks": timings.num_merged,
        "merged_share": timings.merged_share,
        "definitions": DEFINITIONS,
    }


def encode(summary: Summary) -> bytes:
    """Returns summary.json's bytes: the same for the same summary."""
    return json.dumps(summary, indent=2, ensure_ascii=False, allow_nan=False).encode("utf-8", "surrogatepass") + b"\n"


def _outcome(record: RequestRecord) -> str:
    if record.phase == "warmup":
        return "warmup"
    if record.error is None:
        return "finished"
    return {"context_overflow": "skipped", "interrupted": "interrupted"}.get(record.error.kind, "failed")


def _acceptance(
    counts: list[RequestAcceptance],
    categories: list[str],
    conversations: list[Hashable],
    source: str | None,
    manifest: Manifest,
) -> dict[str, Any]:
    draft_length = manifest.config.get("spec", {}).get("draft_length") or 0
    draft_length = max([draft_length, *(len(request.histogram or ()) - 1 for request in counts)])

    def block(indices: list[int]) -> dict[str, Any]:
        chosen = [counts[i] for i in indices]
        return {
            "pooled": figures(chosen, draft_length),
            "macro": macro(chosen, draft_length),
            "macro_by_conversation": macro(chosen, draft_length, [conversations[i] for i in indices]),
        }

    indices_by_category: dict[str, list[int]] = defaultdict(list)
    for index, category in enumerate(categories):
        indices_by_category[category].append(index)
    overall = block(list(range(len(counts))))
    if source == "engine_total" and manifest.engine_totals is not None:
        # The engine counted the run as a whole: what it says of single requests and categories stays null.
        output_tokens = sum(request.output_tokens for request in counts)
        total = from_counters(manifest.engine_totals, output_tokens)
        overall["pooled"] = figures([total], max(draft_length, len(total.histogram or ()) - 1))
        emitted = output_tokens - sum(request.output_tokens > 0 for request in counts)
        steps = total.decode_steps
        overall["pooled"]["acceptance_length"] = emitted / steps if steps else None
    return {
        "source": source,
        **overall,
        "by_category": {
            category: {"num_requests": len(indices), **block(indices)}
            for category, indices in sorted(indices_by_category.items())
        },
    }
