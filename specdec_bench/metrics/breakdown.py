"""A run's acceptance by turn and by context length, and the quantiles of its times."""

from collections import defaultdict
from collections.abc import Iterable

import numpy as np

from specdec_bench.metrics.acceptance import request_acceptance
from specdec_bench.metrics.arrays import Floats
from specdec_bench.metrics.timing import Timings, request_times
from specdec_bench.records.request import Record, RequestRecord

SMALLEST_CONTEXT = 128
"""The end of the first bucket of context lengths; each further bucket is twice as long."""


class Group(Record, frozen=True, kw_only=True):
    """Pooled acceptance of a part of a run."""

    first: int
    """The turn, or the smallest context length."""
    num_requests: int
    num_steps: int | None
    """Decode steps. None if a request does not tell its own."""
    acceptance_length: float | None


class Breakdown:
    """The sums, gathered in one pass over the finished requests of the measured window."""

    def __init__(self, records: Iterable[RequestRecord] = ()) -> None:
        self.timings = Timings()
        self._turns: dict[int, list[tuple[int, int | None]]] = defaultdict(list)
        self._contexts: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
        self._is_exact = True
        self._tpot_ms: list[float] = []
        self._e2e_ms: list[float] = []
        for record in records:
            self.add(record)

    def add(self, record: RequestRecord) -> None:
        """Adds one request, unless it belongs to the warm-up or did not finish."""
        if record.phase != "measure" or record.error is not None:
            return
        counts = request_acceptance(record)
        self._turns[record.turn].append((max(counts.output_tokens - 1, 0), counts.decode_steps))
        self.timings.add(record)
        times = request_times(record)
        if times is not None:
            self._e2e_ms.append(times.e2e_ms)
            if times.tpot_ms is not None:
                self._tpot_ms.append(times.tpot_ms)
        later = record.steps[1:]
        if record.acceptance_source is None or not all(
            record.steps_are_exact or step.num_accepted is not None for step in later
        ):
            self._is_exact = False
            return
        context, seen = record.num_prompt_tokens, set()
        for step in record.steps[:1]:
            context += step.num_tokens
        for step in later:
            bucket = max((context // SMALLEST_CONTEXT).bit_length(), 0)
            sums = self._contexts[bucket]
            sums[0] += bucket not in seen
            sums[1] += 1
            sums[2] += step.num_tokens
            seen.add(bucket)
            context += step.num_tokens

    def by_turn(self) -> list[Group]:
        """Returns the acceptance of each turn of the conversations."""
        found = []
        for turn, requests in sorted(self._turns.items()):
            known = [steps for _, steps in requests if steps is not None]
            num_steps = sum(known) if len(known) == len(requests) else None
            tokens = sum(tokens for tokens, _ in requests)
            length = tokens / num_steps if num_steps else None
            found.append(Group(first=turn, num_requests=len(requests), num_steps=num_steps, acceptance_length=length))
        return found

    def by_context(self) -> list[Group]:
        """Returns the tokens of a decode step by how many tokens the context had when the step began.

        The buckets are 0 to 127, 128 to 255, 256 to 511 and so on. Returns nothing for plain decoding, or if any chunk
        may hold several steps.
        """
        if not self._is_exact:
            return []
        return [
            Group(
                first=SMALLEST_CONTEXT << (bucket - 1) if bucket else 0,
                num_requests=num_requests,
                num_steps=num_steps,
                acceptance_length=num_tokens / num_steps,
            )
            for bucket, (num_requests, num_steps, num_tokens) in sorted(self._contexts.items())
        ]

    def quantiles(self, percentiles: Iterable[float]) -> dict[str, list[float]]:
        """Returns the percentiles of each time in ms, by the names of the summary; those without a sample are absent.

        Step times are absent if chunks were merged: the gaps between those are not steps.
        """
        at = list(percentiles)
        steps_ms, ttft_ms = self.timings.samples_ms()
        samples: dict[str, Floats] = {
            "ttft_ms": ttft_ms,
            "tpot_ms": np.array(self._tpot_ms),
            "step_time_ms": steps_ms,
            "e2e_ms": np.array(self._e2e_ms),
        }
        return {name: np.percentile(values, at).tolist() for name, values in samples.items() if len(values)}
