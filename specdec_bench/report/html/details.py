"""What the page shows of one run beyond its row in the table."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from specdec_bench.archive.layout import RunDirectory
from specdec_bench.errors import ArchiveError
from specdec_bench.metrics.breakdown import Breakdown, Group
from specdec_bench.metrics.definitions import DEFINITIONS
from specdec_bench.metrics.summary import summarize
from specdec_bench.records.request import Prompt, RequestRecord
from specdec_bench.records.shown_first import shown_first
from specdec_bench.records.summary import Summary
from specdec_bench.report.html.data import Acceptance, Category, Inspected

MAX_CHARACTERS = 6000
"""Of a reply. A longer one is cut, and says so."""
MAX_PROMPT_CHARACTERS = 1500
MAX_NAME = 120
"""Characters of a category."""
PERCENTILES = [0.0, 1.0, *(2.5 * step for step in range(1, 40)), 99.0, 99.9, 100.0]


@dataclass(kw_only=True)
class Details:
    """One run, of one pass over its requests."""

    summary: Summary | None
    by_turn: list[Group]
    by_context: list[Group]
    quantiles: dict[str, list[float]]
    """The percentiles in `PERCENTILES` of each time, in ms."""
    inspected: list[Inspected]
    """In the order in which they are shown, the first of each category first."""


def read_details(run: RunDirectory) -> Details:
    """Returns the details of a run, whether it finished or not.

    Raises:
        ArchiveError: a file of it is broken.
    """
    return make_details(run, list(run.requests()))


def make_details(run: RunDirectory, records: Sequence[RequestRecord]) -> Details:
    """Returns the details of a run with these requests.

    Raises:
        ArchiveError: a file of it is broken.
    """
    try:
        prompts = {prompt.prompt_id: prompt for prompt in run.prompts()}
    except ArchiveError:
        prompts = {}
    order = {prompt_id: place for place, prompt_id in enumerate(shown_first(prompts.values()))}
    breakdown, shown = Breakdown(), []
    for record in records:
        breakdown.add(record)
        is_measured = record.phase == "measure" and record.error is None and bool(record.steps)
        if is_measured and record.repeat == 0 and record.prompt_id in order:
            shown.append(record)
    wanted = {(record.prompt_id, record.turn) for record in shown}
    responses = run.responses() if run.responses_path.is_file() else ()  # an archive may leave the texts out
    replies = {
        (response.prompt_id, response.turn): response
        for response in responses
        if response.repeat == 0 and (response.prompt_id, response.turn) in wanted
    }
    shown.sort(key=lambda record: (record.turn, order[record.prompt_id]))
    inspected = []
    for record in shown:
        response = replies.get((record.prompt_id, record.turn))
        text, lengths = (response.text, response.token_lengths) if response else ("", None)
        inspected.append(_inspect(record, prompts[record.prompt_id], text, lengths))
    summary = run.summary() if run.summary_path.is_file() else None
    if summary is not None and summary.definitions != DEFINITIONS:  # of another release
        summary = summarize(records, run.manifest())
    return Details(
        summary=summary,
        by_turn=breakdown.by_turn(),
        by_context=breakdown.by_context(),
        quantiles=breakdown.quantiles(PERCENTILES),
        inspected=inspected,
    )


def _inspect(record: RequestRecord, prompt: Prompt, text: str, lengths: Sequence[int] | None) -> Inspected:
    sent = record.sent_ns if record.sent_ns is not None else record.scheduled_ns
    times = [sent, *(step.received_ns for step in record.steps)]
    asked = prompt.turns[record.turn] if record.turn < len(prompt.turns) else ""
    if prompt.random_tokens is not None:
        asked = f"({prompt.random_tokens.num_tokens} random token ids)"
    is_whole = lengths is not None and sum(lengths) == len(text)
    return Inspected(
        prompt_id=record.prompt_id,
        category=record.category[:MAX_NAME],
        turn=record.turn,
        prompt=_cut(asked, MAX_PROMPT_CHARACTERS),
        text=text[:MAX_CHARACTERS],
        is_cut=len(text) > MAX_CHARACTERS,
        token_lengths=list(lengths) if lengths is not None and is_whole else None,
        num_prompt_tokens=record.num_prompt_tokens,
        finish_reason=record.finish_reason,
        gaps_us=[round((now - before) / 1000) for before, now in itertools.pairwise(times)],
        num_tokens=[step.num_tokens for step in record.steps],
        num_proposed=[step.num_proposed for step in record.steps],
        num_accepted=[step.num_accepted for step in record.steps],
    )


def acceptance(details: Details, *, max_categories: int) -> Acceptance | None:
    """Returns a run's acceptance; None if it has no summary."""
    if details.summary is None:
        return None
    found = details.summary.acceptance
    largest = sorted(found.by_category.items(), key=lambda item: (-item[1].num_requests, item[0]))[:max_categories]
    return Acceptance(
        source=found.source,
        joint=[round_for_page(value) for value in found.pooled.acceptance_joint or []],
        conditional=[round_for_page(value) for value in found.pooled.acceptance_conditional or []],
        by_category=[
            Category(
                name=name[:MAX_NAME],
                num_requests=block.num_requests,
                acceptance_length=round_for_page(block.pooled.acceptance_length),
            )
            for name, block in sorted(largest)
        ],
        num_categories=len(found.by_category),
        by_turn=details.by_turn,
        by_context=details.by_context,
    )


def round_for_page(value: float | None) -> float | None:
    """Returns the value with six significant digits, which is more than any plot or table of the page shows."""
    return None if value is None else float(f"{value:.6g}")


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[:length] + " … (cut)"
