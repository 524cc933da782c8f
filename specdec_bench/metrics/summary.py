"""summary.json: every metric of a run, computed from its requests and its manifest alone.

`specdec_bench.records.summary` declares its fields.
"""

import json
import math
from array import array
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence

import msgspec
import numpy as np
from msgspec import UNSET, UnsetType

from specdec_bench.config import plugins
from specdec_bench.config.support import archived_support
from specdec_bench.errors import PluginError, named
from specdec_bench.metrics.acceptance import (
    AcceptanceByRequest,
    RequestAcceptance,
    from_counters,
    number_groups,
    pool,
    request_acceptance,
)
from specdec_bench.metrics.arrays import Integers
from specdec_bench.metrics.checkpoint_warnings import DraftReach, checkpoint_warnings
from specdec_bench.metrics.cost import cost, energy_use
from specdec_bench.metrics.definitions import DEFINITIONS
from specdec_bench.metrics.distribution import describe
from specdec_bench.metrics.engine_warnings import engine_warnings, network_warnings, totals_warnings
from specdec_bench.metrics.goodput import ObjectiveCounts, stated_objectives
from specdec_bench.metrics.steps_by_proposed import StepsByProposed, without_rates
from specdec_bench.metrics.timing import Timings, request_times
from specdec_bench.records.json_types import Json
from specdec_bench.records.labels import draft_lengths_of
from specdec_bench.records.manifest import ArchivedDataset, Lateness, Manifest, label_of_load
from specdec_bench.records.options import integer_option, option, text_option
from specdec_bench.records.request import SCHEMA_VERSION, AcceptanceSource, RequestRecord
from specdec_bench.records.summary import (
    Acceptance,
    AcceptanceTotals,
    CategoryAcceptance,
    Client,
    ClientLateness,
    CrossCheck,
    DatasetCounts,
    ExtraMetric,
    PooledAcceptance,
    RequestCounts,
    Summary,
)
from specdec_bench.records.unused import shorten

SATURATED_MS = 2.0
"""A loop that is later than this half of the time adds as much to most of the times that it measures."""


class Samples:
    """The data for metrics and plots, gathered in one pass over the requests.

    The lists have one entry per finished request of the measured window.
    """

    def __init__(
        self, records: Iterable[RequestRecord], manifest: Manifest | None = None, *, keeps_records: bool = False
    ) -> None:
        self.records = list(records) if keeps_records else []
        """All requests as they were read, for what is shown beside the summary."""
        self.reach = DraftReach(manifest)
        objectives = {} if manifest is None else stated_objectives(manifest.config)
        self._has_objectives = bool(objectives)
        self.objectives = ObjectiveCounts(objectives)
        self.outcomes = dict.fromkeys(("finished", "failed", "skipped", "interrupted", "warmup"), 0)
        self.num_cut_off = 0
        """Requests of the measured window that had tokens and did not finish."""
        self.acceptance: list[RequestAcceptance] = []
        follows_batch = manifest is not None and draft_lengths_of(manifest.config) is not None
        self.steps_by_proposed = StepsByProposed() if follows_batch else None
        """Only where the draft length follows the batch size."""
        self.categories: list[str] = []
        self.conversations: list[Hashable] = []
        self.num_repeats = 0
        """How often the dataset was run, at least in part."""
        self.prompt_tokens = array("q")
        self.preemptions: list[int | None] = []
        """How often each request was preempted; None where the engine does not tell."""
        self.skipped_prompts: dict[str, None] = {}
        """The ids of conversations that outgrew the model's context, each once, in the order of the requests."""
        self.refused_prompts: dict[str, None] = {}
        """The ids of conversations with a later turn that could not be encoded, each once."""
        self.sources: set[AcceptanceSource | None] = set()
        self.timings = Timings()
        self.timed_categories: list[str] = []
        """The category of each request in `timings`, which has the requests that received anything."""
        self.kept: list[RequestRecord] = []
        """The records themselves, kept only if a plugin computes a metric from them."""
        for record in self.records if keeps_records else records:
            self._add(record)

    def _add(self, record: RequestRecord) -> None:
        outcome = _outcome(record)
        self.outcomes[outcome] += 1
        if outcome == "skipped":
            self.skipped_prompts[record.prompt_id] = None
        if record.error is not None and record.error.kind == "encoding_error":
            self.refused_prompts[record.prompt_id] = None
        if outcome == "failed":
            self.objectives.add_failed()
        if outcome != "finished":
            self.num_cut_off += outcome != "warmup" and record.num_output_tokens > 0
            return
        if self._has_objectives:
            self.objectives.add_finished(request_times(record))
        if plugins.METRICS:
            self.kept.append(record)
        self.reach.add(record)
        self.acceptance.append(request_acceptance(record))
        if self.steps_by_proposed is not None:
            self.steps_by_proposed.add(record)
        self.categories.append(record.category)
        self.num_repeats = max(self.num_repeats, record.repeat + 1)
        self.prompt_tokens.append(record.num_prompt_tokens)
        self.preemptions.append(record.num_preemptions)
        self.conversations.append((record.prompt_id, record.repeat))
        if record.steps:  # a request that ended before its first token does not show the source of counts
            self.sources.add(record.acceptance_source)
            self.timings.add(record)
            self.timed_categories.append(record.category)


def summarize(samples: Samples | Iterable[RequestRecord], manifest: Manifest) -> Summary:
    """Returns the summary of one run. Metrics exclude warm-up and failed requests; the latter are counted.

    Raises:
        ValueError: acceptance comes from different sources within the run, which no adapter may do.
    """
    if not isinstance(samples, Samples):
        samples = Samples(samples, manifest)
    timings = samples.timings
    if len(samples.sources) > 1:
        raise ValueError(f"acceptance comes from several sources within one run: {sorted(map(str, samples.sources))}")
    preemptions = _preemptions(samples.preemptions)
    throughput = timings.throughput(label_of_load(manifest).max_in_flight, manifest.engine.num_accelerators or 0)
    acceptance = _acceptance(samples, manifest)
    return Summary(
        schema_version=SCHEMA_VERSION,
        run_id=manifest.run_id,
        status=manifest.status,
        partial=manifest.status != "finished",
        synthetic=manifest.synthetic,
        warnings=(
            *_warnings(manifest.config, samples.num_repeats),
            *checkpoint_warnings(manifest, samples.reach, list(samples.refused_prompts)),
            *engine_warnings(manifest, preemptions, len(samples.preemptions)),
            *network_warnings(timings),
            *totals_warnings(acceptance, samples.num_cut_off),
        ),
        dataset=_dataset(manifest.dataset),
        requests=RequestCounts(
            finished=samples.outcomes["finished"],
            failed=samples.outcomes["failed"],
            skipped=samples.outcomes["skipped"],
            interrupted=samples.outcomes["interrupted"],
            warmup=samples.outcomes["warmup"],
            conversations=len(set(samples.conversations)),
            skipped_prompts=tuple(samples.skipped_prompts),
            preempted=preemptions["preempted"],
            preemptions=preemptions["preemptions"],
        ),
        prompt_tokens=describe(samples.prompt_tokens),
        acceptance=acceptance,
        latency=timings.latency(),
        latency_by_category={
            name: timings.latency(rows) for name, rows in _rows_by_category(samples.timed_categories).items()
        },
        throughput=throughput,
        slo=samples.objectives.result(throughput.duration_s),
        energy=energy_use(manifest, throughput.output_tokens),
        cost=cost(manifest, throughput),
        merged_chunks=timings.num_merged,
        merged_share=timings.merged_share,
        joined_chunks=timings.num_joined,
        joined_share=timings.joined_share,
        client=_client(manifest.client_lateness),
        definitions=DEFINITIONS,
        extra=_extra(samples.kept),
    )


def _warnings(config: Mapping[str, Json], num_repeats: int) -> list[str]:
    """Returns a warning for each setting that distorts acceptance.

    Args:
        config: the archived experiment.
        num_repeats: how often the dataset was run, at least in part.
    """
    warnings = []
    if option(config, "sampling", "ignore_eos"):
        warnings.append(
            "sampling.ignore_eos=true: replies go on after their end, and text beyond it distorts acceptance"
        )
    if num_tokens := option(config, "sampling", "min_new_tokens"):
        warnings.append(
            f"sampling.min_new_tokens={num_tokens}: replies that would have ended sooner go on, and "
            "text beyond their end distorts acceptance"
        )
    if text_option(config, "dataset", "name") == "random":
        warnings.append("dataset=random: acceptance on random text says little of real use")
    asked = integer_option(config, "load", "repeats") or 1
    cause = f"load.repeats={asked}" if asked > 1 else f"the dataset is run {num_repeats} times"
    if max(asked, num_repeats) > 1 and _drafts_from_other_requests(config):
        warnings.append(
            f"{cause}: this method drafts from what earlier requests said, so that a repeat finds "
            "the replies of the one before: acceptance and speed are those of text that was seen already"
        )
    return warnings


def _preemptions(counts: Sequence[int | None]) -> dict[str, int | None]:
    """Returns how many finished requests were preempted, and how often in all; None if any count is unknown."""
    told = [count for count in counts if count is not None]
    if not told or len(told) < len(counts):
        return {"preempted": None, "preemptions": None}
    return {"preempted": sum(count > 0 for count in told), "preemptions": sum(told)}


def _dataset(dataset: ArchivedDataset) -> DatasetCounts:
    """Returns the counts from the dataset's rows to its prompts; None for those that an older archive lacks."""
    return DatasetCounts(
        num_rows=_known(dataset.num_rows),
        num_usable=_known(dataset.num_usable),
        num_prompts=_known(dataset.num_prompts),
        num_turns_cut=_known(dataset.num_turns_cut),
        unused=None if dataset.unused is UNSET else shorten(dataset.unused),
    )


def _known(count: int | UnsetType) -> int | None:
    return None if count is UNSET else count


def _drafts_from_other_requests(config: Mapping[str, Json]) -> bool:
    """Whether one request's text is proposed to another."""
    is_shared = text_option(config, "spec", "name") == "ngram" and archived_support(config).shares_ngrams
    return is_shared or bool(option(config, "spec", "max_cached_requests"))


def _cross_check(pooled: PooledAcceptance, source: AcceptanceSource | None, manifest: Manifest) -> CrossCheck | None:
    """Returns the engine's totals, and how its counts of each request differ from them; None without both.

    The totals include requests that failed or were cut off, so the difference must be zero only in a run without those.
    """
    totals = manifest.engine_totals
    if source != "engine_request" or totals is None:
        return None
    told = from_counters(totals, 0)
    return CrossCheck(
        source="engine_total",
        decode_steps=told.decode_steps,
        verify_steps=told.verify_steps,
        proposed=told.proposed,
        accepted=told.accepted,
        difference=AcceptanceTotals(
            decode_steps=_difference(pooled.decode_steps, told.decode_steps),
            verify_steps=_difference(pooled.verify_steps, told.verify_steps),
            proposed=_difference(pooled.proposed, told.proposed),
            accepted=_difference(pooled.accepted, told.accepted),
        ),
    )


def _difference(counted: int | None, total: int | None) -> int | None:
    return None if counted is None or total is None else counted - total


def _client(lateness: Lateness | None) -> Client:
    """Returns how late the measuring loop was, and whether that distorts the metrics."""
    if lateness is None:
        return Client()
    times = ClientLateness(mean=lateness.mean_ms, p50=lateness.p50_ms, p99=lateness.p99_ms, max=lateness.max_ms)
    return Client(lateness_ms=times, saturated=is_saturated(lateness))


def is_saturated(lateness: Lateness) -> bool:
    """Whether the loop was late enough to distort the metrics.

    The mean counts as well as the median: a loop that idles between bursts is on time at the median.
    """
    return max(lateness.mean_ms or 0, lateness.p50_ms) > SATURATED_MS


def encode(summary: Summary) -> bytes:
    """Returns summary.json's bytes: the same for the same summary."""
    tree = msgspec.to_builtins(summary)
    try:
        return json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    except UnicodeEncodeError:  # a category may hold a lone surrogate, which UTF-8 has no bytes for
        return json.dumps(tree, indent=2, allow_nan=False).encode("ascii") + b"\n"


def _outcome(record: RequestRecord) -> str:
    if record.phase == "warmup":
        return "warmup"
    if record.error is None:
        return "finished"
    return {"context_overflow": "skipped", "interrupted": "interrupted"}.get(record.error.kind, "failed")


def _extra(records: Sequence[RequestRecord]) -> dict[str, ExtraMetric] | UnsetType:
    """Returns the plugins' metrics of the finished requests; UNSET if no plugin has one.

    Raises:
        PluginError: one of them fails.
    """
    found: dict[str, ExtraMetric] = {}
    for name, metric in plugins.METRICS.items():
        try:
            value = metric.compute(records)
        except Exception as error:
            raise PluginError(f"the metric {name} of a plugin fails: {named(error)}; repair it") from error
        if value is not None and not (isinstance(value, int | float) and math.isfinite(value)):
            raise PluginError(f"the metric {name} of a plugin gives {value!r}; it must be a finite number, or None")
        found[name] = ExtraMetric(value=value, definition=metric.definition)
    return found or UNSET


def _rows_by_category(categories: Sequence[str]) -> dict[str, Integers]:
    """Returns the indices of each category's requests, categories sorted."""
    rows: dict[str, list[int]] = defaultdict(list)
    for index, category in enumerate(categories):
        rows[category].append(index)
    return {category: np.array(rows[category], dtype=np.int64) for category in sorted(rows)}


def _acceptance(samples: Samples, manifest: Manifest) -> Acceptance:
    counts, source = samples.acceptance, next(iter(samples.sources), None)
    draft_length = integer_option(manifest.config, "spec", "draft_length") or 0
    draft_length = max([draft_length, *(len(request.histogram or ()) - 1 for request in counts)])
    by_request, conversations = AcceptanceByRequest(counts, draft_length), number_groups(samples.conversations)

    def of_category(rows: Integers) -> CategoryAcceptance:
        return CategoryAcceptance(
            num_requests=len(rows),
            pooled=pool((counts[row] for row in rows), draft_length),
            macro=by_request.mean(rows),
            macro_by_conversation=by_request.mean(rows, conversations),
        )

    overall = of_category(np.arange(len(counts)))
    pooled = overall.pooled
    if source == "engine_total" and manifest.engine_totals is not None:
        # The engine counted only the run as a whole, so its counts of single requests and categories stay null.
        output_tokens = sum(request.output_tokens for request in counts)
        total = from_counters(manifest.engine_totals, output_tokens)
        emitted = output_tokens - sum(request.output_tokens > 0 for request in counts)
        # From the requests, if each chunk was one step. The total has the steps of requests that were cut off too.
        are_own = pooled.decode_steps is not None
        steps = pooled.decode_steps if are_own else total.decode_steps
        pooled = msgspec.structs.replace(
            pool([total], max(draft_length, len(total.histogram or ()) - 1)),
            decode_steps=steps,
            acceptance_length=emitted / steps if steps and (are_own or not samples.num_cut_off) else None,
        )
    acceptance = Acceptance(
        source=source,
        cross_check=_cross_check(pooled, source, manifest),
        pooled=pooled,
        macro=overall.macro,
        macro_by_conversation=overall.macro_by_conversation,
        by_category={name: of_category(rows) for name, rows in _rows_by_category(samples.categories).items()},
    )
    if samples.steps_by_proposed is None:
        return acceptance
    # The totals of an engine do not tell what single steps proposed.
    by_num_proposed = samples.steps_by_proposed.result() if source == "engine_request" else None
    return msgspec.structs.replace(without_rates(acceptance), by_num_proposed=by_num_proposed)
