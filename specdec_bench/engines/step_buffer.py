"""Records a request's engine steps where they reach this process, before an engine merges them."""

import time

from specdec_bench.records.request import AcceptanceCounters, FinishReason, RequestMade, StepBatch

READ_PERIOD_NS = 500_000_000
"""How often a request's steps are passed on to the progress display."""


class StepBuffer:
    """One request's steps, recorded one by one and taken in batches."""

    __slots__ = ("is_attached", "last_flush_ns", "num_steps", "num_tokens", "sizes", "times_ns", "token_ids")

    def __init__(self) -> None:
        self.is_attached = False
        """Whether the engine's outputs are recorded here."""
        self.token_ids: list[int] = []
        self.sizes: list[int] = []
        self.times_ns: list[int] = []
        self.num_steps = self.num_tokens = 0
        """Of the steps already taken."""
        self.last_flush_ns = time.perf_counter_ns()

    def note(self, token_ids: list[int], now_ns: int) -> None:
        """Adds a step that produced these tokens."""
        self.token_ids += token_ids
        self.sizes.append(len(token_ids))
        self.times_ns.append(now_ns)

    def is_due(self, now_ns: int) -> bool:
        """Returns whether it is time to pass on the recorded steps. If so, the next period starts."""
        if now_ns - self.last_flush_ns <= READ_PERIOD_NS:
            return False
        self.last_flush_ns = now_ns
        return True

    def take(
        self,
        *,
        is_plain: bool,
        counts_requests: bool,
        finish_reason: FinishReason | None = None,
        counters: AcceptanceCounters | None = None,
        made: RequestMade | None = None,
        proposed_per_step: int | None = None,
    ) -> StepBatch:
        """Returns the steps recorded since the last call.

        Engines count drafts before they cut a step at a stop token or at the limit, and only a request's last step
        can be cut. So a step's accepted drafts are its tokens less the target's own, and the last step's follow
        from the request's sum: of S steps after the prefill, the V with drafts emit accepted + 1 tokens each and
        the others one, S + accepted in all, less what was cut.

        Args:
            is_plain: nothing is drafted.
            counts_requests: the engine reports how many drafts each request accepted.
            finish_reason: set if the request is over.
            counters: the engine's, of the whole request, if it is over.
            made: what else the engine reports of it, if it is over.
            proposed_per_step: drafts in every step after the prefill, where the engine always proposes that many.
        """
        is_first = self.num_steps == 0
        token_ids, sizes, times_ns = self.token_ids, self.sizes, self.times_ns
        self.token_ids, self.sizes, self.times_ns = [], [], []
        self.num_steps += len(sizes)
        self.num_tokens += len(token_ids)
        proposed: list[int | None] = [0 if is_plain else proposed_per_step] * len(sizes)
        accepted: list[int | None] = [None] * len(sizes)
        if is_plain:
            accepted = [0] * len(sizes)
        elif counts_requests:
            accepted = [size - 1 for size in sizes]
            if is_first and sizes:  # the prefill
                proposed[0] = accepted[0] = 0
        if counters is not None and counters.num_accepted is not None and sizes and self.num_steps > 1:
            accepted[-1] = sizes[-1] - 1 + counters.num_accepted + self.num_steps - self.num_tokens
        return StepBatch(token_ids, sizes, times_ns, proposed, accepted, finish_reason, counters, made)
