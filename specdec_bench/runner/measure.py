"""The measured part of a cell: runs every conversation and records each request. Runs on the event loop.

Nothing here touches a disk, a terminal or a tokenizer on the loop: records go to the writer's thread, and
between two turns the reply is decoded and the next prompt encoded in a thread of their own.
"""

import asyncio
import contextlib
import functools
import gc
import itertools
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol, cast

import msgspec

from specdec_bench.archive.redact import known, redact_text
from specdec_bench.checkpoints.prompter import Prompter, first_requests
from specdec_bench.config.identity import request_seed
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.engines.base import Engine, SharedEngine
from specdec_bench.errors import ConfigError
from specdec_bench.load import base as loads
from specdec_bench.records.request import (
    AcceptanceSource,
    GenerationRequest,
    Phase,
    Prompt,
    RequestError,
    RequestRecord,
    RequestSampling,
)
from specdec_bench.runner.clients import Clients
from specdec_bench.runner.loop_lag import LoopLateness
from specdec_bench.runner.messages import Assignment, Counts
from specdec_bench.runner.receive import Received, receive


class Records(Protocol):
    """Where finished requests go."""

    def append(self, record: RequestRecord) -> None:
        """Takes a record, at the cost of an enqueue."""


@dataclass(frozen=True, slots=True)
class Conversation:
    """One prompt's turns, in one repeat of the dataset, with the first turn already encoded."""

    prompt: Prompt
    repeat: int
    first_token_ids: tuple[int, ...]


def request_sampling(config: ExperimentConfig, own_stop_token_ids: Sequence[int]) -> RequestSampling:
    """Returns the sampling that all requests of a cell share; their limits and seeds are set one by one.

    Args:
        config: the cell.
        own_stop_token_ids: the model's own end-of-sequence tokens.
    """
    sampling = config.sampling
    own_stops = () if sampling.ignore_eos else own_stop_token_ids
    return RequestSampling(
        max_new_tokens=sampling.max_new_tokens,
        min_new_tokens=sampling.min_new_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        top_k=sampling.top_k,
        seed=config.seed,
        stop_token_ids=tuple(sorted({*own_stops, *sampling.stop_token_ids})),
    )


class Measurement:
    """Measures one cell on a started engine."""

    def __init__(
        self,
        config: ExperimentConfig,
        prompts: list[Prompt],
        engine: Engine,
        prompter: Prompter,
        writer: Records,
        first_token_ids: list[tuple[int, ...]] | None = None,
        around_window: contextlib.AbstractContextManager[object] | None = None,
        has_totals: bool | None = None,
    ) -> None:
        """Takes a cell.

        Args:
            config: the experiment.
            prompts: its conversations.
            engine: started.
            prompter: of its model.
            writer: where the records go.
            first_token_ids: those of each conversation's first request, if already encoded.
            around_window: is entered just before the measured window, and left just after.
            has_totals: whether the engine has counters of the whole run; None asks it.
        """
        self.live = Counts()
        self.lateness = LoopLateness()
        self.phase: Phase = "warmup"
        self.phase_began_s = time.perf_counter()
        self._config = config
        self._around_window = around_window or contextlib.nullcontext()
        self._prompts = prompts
        self._engine = engine
        self._prompter = prompter
        self._writer = writer
        self._max_seq_len = engine.describe().max_seq_len
        self._sampling = request_sampling(config, prompter.stop_token_ids)
        if first_token_ids is None:
            first_token_ids = first_requests(prompter, prompts)
        self._first_token_ids = first_token_ids
        self._load = loads.create(config.load, config.seed, config.load.repeats * len(prompts))
        if has_totals is None:  # asked once, before the window: a server's counters are read over HTTP
            has_totals = config.spec.name != "none" and engine.counters() is not None
        self._has_totals = has_totals
        self._encoding = ThreadPoolExecutor(max_workers=1, thread_name_prefix="encode")

    @property
    def num_requests(self) -> int:
        """Requests of the measured window, if every conversation reaches its last turn."""
        num_rounds, num_left = divmod(self._load.num_conversations, len(self._prompts))
        num_turns = [len(prompt.turns) for prompt in self._prompts]
        return num_rounds * sum(num_turns) + sum(num_turns[:num_left])

    @functools.cached_property
    def dropped(self) -> dict[str, int]:
        """The conversations whose first request does not fit the model's context, by id.

        Each is recorded as skipped. Its value is the number of tokens that the request and its reply need. Later turns
        are checked when they are reached.
        """
        if self._max_seq_len is None:
            return {}
        needed = (
            (prompt.prompt_id, len(token_ids) + self._max_new_tokens(prompt))
            for prompt, token_ids in zip(self._prompts, self._first_token_ids, strict=True)
        )
        return {prompt_id: num_tokens for prompt_id, num_tokens in needed if num_tokens > self._max_seq_len}

    async def run(self, clients: Clients | None = None) -> None:
        """Warms up, resets the engine, and measures. Every request is recorded, cancelled ones too.

        Args:
            clients: the processes that send the requests of the window; None sends them from this one.
        """
        load = self._config.load
        fitting = [held for held in self._conversations(0) if held.prompt.prompt_id not in self.dropped]
        rounds = (replace(held, repeat=number) for number in itertools.count() for held in fitting)
        warmup = itertools.islice(rounds if fitting else (), load.num_warmup)
        try:
            await self._load.run(warmup, self._warm_up)
            await self._engine.reset()
            if clients is not None:
                await clients.prepare(self._assignment(clients.number))
            self.phase, self.phase_began_s, self.live = "measure", time.perf_counter(), Counts()
            with self._around_window:
                if clients is None:
                    await self._offer(self._load)
                else:
                    await clients.run(self.live)
        finally:
            self._encoding.shutdown(wait=False, cancel_futures=True)

    async def run_share(self, share: loads.Share) -> None:
        """Measures a client's share of the window, in a process of its own."""
        self.phase = "measure"
        self._load = self._load.part(share)
        try:
            await asyncio.sleep((share.begins_ns - time.perf_counter_ns()) / 1e9)
            await self._offer(self._load)
        finally:
            self._encoding.shutdown(wait=False, cancel_futures=True)

    async def _offer(self, load: loads.Load) -> None:
        repeats = itertools.chain.from_iterable(map(self._conversations, itertools.count()))
        conversations = itertools.islice(repeats, load.num_conversations)
        with no_garbage_collection(), self.lateness:
            await load.run(conversations, self._run_conversation)

    def _assignment(self, num_clients: int) -> Assignment:
        """Returns what the first of so many clients has to do."""
        return Assignment(
            config=self._config,
            prompts=self._prompts,
            first_token_ids=self._first_token_ids,
            stop_token_ids=self._prompter.stop_token_ids,
            has_totals=self._has_totals,
            attachment=cast(SharedEngine, self._engine).attachment(),
            secrets=known(),
            index=0,
            num_clients=num_clients,
        )

    def _conversations(self, repeat: int) -> Iterator[Conversation]:
        return (Conversation(p, repeat, ids) for p, ids in zip(self._prompts, self._first_token_ids, strict=True))

    async def _warm_up(self, conversation: Conversation, scheduled_ns: int | None) -> None:
        """Sends the first turn only."""
        await self._request(conversation, 0, conversation.first_token_ids, scheduled_ns)

    async def _run_conversation(self, conversation: Conversation, scheduled_ns: int | None) -> None:
        """Sends turn after turn; the model's own replies are part of the next prompt. Ends at the first failure.

        Args:
            conversation: what to send.
            scheduled_ns: when its first turn is due; None: whenever it is sent.
        """
        prompt = conversation.prompt
        token_ids = conversation.first_token_ids
        replies: list[str] = []
        for turn in range(len(prompt.turns)):
            record = await self._request(conversation, turn, token_ids, scheduled_ns)
            if record.error is not None:
                return
            if turn + 1 < len(prompt.turns):
                ended_ns = record.steps[-1].received_ns if record.steps else time.perf_counter_ns()
                try:
                    token_ids = await asyncio.get_running_loop().run_in_executor(
                        self._encoding, self._next_turn, prompt, replies, record.output_token_ids
                    )
                except ConfigError as error:
                    self._refuse(conversation, turn + 1, str(error))
                    return
                scheduled_ns = await self._load.wait_for_turn(ended_ns)

    def _next_turn(self, prompt: Prompt, replies: list[str], output_token_ids: tuple[int, ...]) -> tuple[int, ...]:
        replies.append(self._prompter.reply(output_token_ids))
        return self._prompter.encode(prompt.system, prompt.turns[: len(replies) + 1], replies)

    def _refuse(self, conversation: Conversation, turn: int, reason: str) -> None:
        """Records a turn that could not be encoded, and so was never sent: its conversation ends there."""
        prompt = conversation.prompt
        record = RequestRecord(
            request_id=f"{prompt.prompt_id}/{turn}/{conversation.repeat}",
            prompt_id=prompt.prompt_id,
            category=prompt.category,
            turn=turn,
            repeat=conversation.repeat,
            phase=self.phase,
            scheduled_ns=time.perf_counter_ns(),
            sent_ns=None,
            prompt_token_ids=(),
            seed=request_seed(self._config.seed, prompt.prompt_id, turn, conversation.repeat),
            error=RequestError(
                kind="encoding_error",
                message=redact_text(f"prompt {prompt.prompt_id}, turn {turn + 1}: {reason}"),
            ),
        )
        self._writer.append(record)
        self._count(record)

    async def _request(
        self, conversation: Conversation, turn: int, token_ids: tuple[int, ...], scheduled_ns: int | None
    ) -> RequestRecord:
        """Sends one turn and hands its record to the writer.

        Raises:
            asyncio.CancelledError: the run was stopped; the record is still written.
            EngineDiedError: the engine died; the record is still written.
        """
        prompt = conversation.prompt
        request_id = f"{prompt.prompt_id}/{turn}/{conversation.repeat}"
        request = GenerationRequest(
            request_id=request_id if self.phase == "measure" else f"warmup/{request_id}",
            prompt_token_ids=token_ids,
            sampling=msgspec.structs.replace(
                self._sampling,
                max_new_tokens=self._max_new_tokens(prompt),
                seed=request_seed(self._config.seed, prompt.prompt_id, turn, conversation.repeat),
            ),
        )
        needed = len(token_ids) + request.sampling.max_new_tokens
        cancellation: BaseException | None = None
        received: Received | None = None
        if self._max_seq_len is not None and needed > self._max_seq_len:
            error: RequestError | None = RequestError(
                kind="context_overflow",
                message=f"prompt of {len(token_ids)} and {request.sampling.max_new_tokens} new tokens "
                f"exceed max_seq_len={self._max_seq_len}",
            )
        else:
            received, cancellation = await receive(self._engine, request, self.live)
            error = received.error
            if error is not None:  # an engine may quote the arguments that it was started with
                error = RequestError(kind=error.kind, message=redact_text(error.message))
        sent_ns = received.sent_ns if received else None
        if scheduled_ns is None:
            scheduled_ns = time.perf_counter_ns() if sent_ns is None else sent_ns
        record = RequestRecord(
            request_id=request.request_id,
            prompt_id=prompt.prompt_id,
            category=prompt.category,
            turn=turn,
            repeat=conversation.repeat,
            phase=self.phase,
            scheduled_ns=scheduled_ns,
            sent_ns=sent_ns,
            prompt_token_ids=token_ids,
            output_token_ids=tuple(received.token_ids) if received else (),
            steps=received.steps() if received else (),
            steps_are_exact=received.steps_are_exact and bool(received.times) if received else False,
            counters=received.counters if received else None,
            acceptance_source=self._source(received),
            finish_reason=received.finish_reason if received else None,
            num_preemptions=received.made.num_preemptions if received else None,
            server_times=(received.made.server_times if received else None) or msgspec.UNSET,
            seed=request.sampling.seed,
            error=error,
        )
        self._writer.append(record)
        self._count(record)
        if cancellation is not None:
            raise cancellation
        return record

    def _max_new_tokens(self, prompt: Prompt) -> int:
        limit = self._config.sampling.max_new_tokens
        return min(limit, prompt.max_new_tokens or limit)

    def _source(self, received: Received | None) -> AcceptanceSource | None:
        """Returns the best available source of acceptance for one request."""
        if self._config.spec.name == "none" or received is None:
            return None
        if received.counters is not None or None not in received.accepted:
            return "engine_request"
        return "engine_total" if self._has_totals else "stream"

    def _count(self, record: RequestRecord) -> None:
        live = self.live
        if record.error is not None:
            if record.error.kind == "context_overflow":
                live.skipped += 1
            else:
                live.failed += 1
            live.first_error = live.first_error or record.error.message
            return
        live.finished += 1
        if record.steps and all(step.num_accepted is not None for step in record.steps):
            live.decode_steps += len(record.steps) - 1
            live.decoded_tokens += len(record.output_token_ids) - 1


@contextlib.contextmanager
def no_garbage_collection() -> Iterator[None]:
    """Disables garbage collection in the measured window: with torch loaded, a full one stops the loop for 0.4 s."""
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
