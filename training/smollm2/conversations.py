"""Conversations that the target writes alone, both sides of them.

The chat template's header of a user's turn makes the target write a user's turn, the assistant's header makes it
answer. All rows begin with the same tokens and are written in step, so that nothing is padded.

Source: Xu et al., "Magpie: Alignment Data Synthesis from Scratch by Prompting Aligned LLMs with Nothing"
(2406.08464), for prompting with a bare header.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from smollm2.network import Llama
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"
"""Of the published chat template, which sends it where a conversation has no system prompt."""
TURN_LIMITS = (160, 256)
"""The most tokens of a user's turn and of a reply; a longer one is ended there."""
USER, ASSISTANT = 0, 1
SAMPLED_EVERY = 4
"""Every so many rows, the replies of one are sampled; the others' are greedy."""


@dataclass(frozen=True, kw_only=True)
class Template:
    """Token ids of ChatML."""

    opening: list[int]
    """The system prompt and the header of a user's turn."""
    headers: Tensor
    """(2, n): what follows the end of a turn, by whose turn comes next; the shorter one ends in -1."""
    end: int


@dataclass(frozen=True, kw_only=True)
class Conversations:
    """Rows of tokens."""

    ids: np.ndarray
    """(rows, length), uint16."""
    is_reply: np.ndarray
    """(rows, length), bool: the assistant's tokens, with the one that ends the reply."""
    is_greedy: np.ndarray
    """(rows,), bool: rows whose replies are greedy; those of the others are sampled, as users' turns all are."""

    def __getitem__(self, rows: slice | np.ndarray) -> "Conversations":
        return Conversations(ids=self.ids[rows], is_reply=self.is_reply[rows], is_greedy=self.is_greedy[rows])

    def save(self, path: Path) -> None:
        """Writes an .npz file."""
        np.savez(path, ids=self.ids, is_reply=self.is_reply, is_greedy=self.is_greedy)

    @classmethod
    def load(cls, path: Path) -> "Conversations":
        """Reads what `save` wrote."""
        with np.load(path) as arrays:
            return cls(**{name: arrays[name] for name in ("ids", "is_reply", "is_greedy")})


def read_template(tokenizer: Tokenizer) -> Template:
    """Returns the template's tokens."""
    opening = f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n"
    headers = [torch.tensor(tokenizer.encode(f"\n<|im_start|>{role}\n").ids) for role in ("user", "assistant")]
    return Template(
        opening=tokenizer.encode(opening).ids,
        headers=pad_sequence(headers, batch_first=True, padding_value=-1),
        end=tokenizer.token_to_id("<|im_end|>"),
    )


def write_for(target: Llama, template: Template, *, rows: int, length: int, seconds: float, seed: int) -> Conversations:
    """Returns as many waves of rows as fit in the time, but at least one."""
    began, waves = time.perf_counter(), list[tuple[Tensor, Tensor]]()
    generator = torch.Generator(target.embed_tokens.weight.device).manual_seed(seed)
    while not waves or (time.perf_counter() - began) * (1 + 1 / len(waves)) < seconds:
        waves.append(write(target, template, rows, length, generator))
        elapsed, tokens = time.perf_counter() - began, rows * length * len(waves)
        print(f"  {tokens:,} tokens in {elapsed:.0f} s, {tokens / elapsed:,.0f} a second", flush=True)
    ids, is_reply = (torch.cat(parts).numpy() for parts in zip(*waves, strict=True))
    is_greedy = np.tile(np.arange(rows) % SAMPLED_EVERY != SAMPLED_EVERY - 1, len(waves))
    return Conversations(ids=ids.astype(np.uint16), is_reply=is_reply, is_greedy=is_greedy)


@torch.no_grad()
def write(
    target: Llama, template: Template, rows: int, length: int, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Returns one wave on the CPU: ids and is_reply, each (rows, length).

    Users' turns are sampled at temperature 1. So are the replies of every SAMPLED_EVERY-th row; others are greedy.
    """
    device, shape = target.embed_tokens.weight.device, target.shape
    headers, header_lengths = template.headers.to(device), (template.headers >= 0).sum(1).to(device)
    limits = torch.tensor(TURN_LIMITS, device=device)
    caches = target.embed_tokens.weight.new_empty(len(target.layers), 2, rows, shape.kv_heads, length, shape.head_dim)
    ids = torch.empty(rows, length, dtype=torch.long, device=device)
    is_reply = torch.zeros(rows, length, dtype=torch.bool, device=device)
    ids[:, : len(template.opening)] = torch.tensor(template.opening, device=device)
    role = torch.zeros(rows, dtype=torch.long, device=device)  # whose turn is written
    written = torch.zeros_like(role)  # tokens of the turn so far
    header_at = torch.full_like(role, -1)  # the header's next token; -1 within a turn
    is_sampled_row = torch.arange(rows, device=device) % SAMPLED_EVERY == SAMPLED_EVERY - 1
    for position in range(length - 1):
        states = target(ids[:, position : position + 1], caches, position)
        if position + 1 < len(template.opening):
            continue
        logits = target.logits(states.normed[:, 0]).float()
        logits[:, template.end].masked_fill_(written == 0, float("-inf"))  # no turn is empty
        noise = -torch.empty_like(logits).exponential_(generator=generator).log()
        is_sampled = is_sampled_row | (role == USER)
        token = (logits + noise * is_sampled[:, None]).argmax(-1)  # Gumbel's way to sample
        token = torch.where(written >= limits[role], template.end, token)
        in_header = header_at >= 0
        token = torch.where(in_header, headers[role, header_at.clamp_min(0)], token)
        ids[:, position + 1] = token
        is_reply[:, position + 1] = ~in_header & (role == ASSISTANT)

        has_ended = ~in_header & (token == template.end)
        role = torch.where(has_ended, 1 - role, role)
        written = torch.where(in_header | has_ended, 0, written + 1)
        header_at = torch.where(in_header, header_at + 1, torch.where(has_ended, 0, -1))
        header_at = torch.where(header_at == header_lengths[role], -1, header_at)
    return ids.cpu(), is_reply.cpu()


def user_turns(conversations: Conversations, tokenizer: Tokenizer, template: Template) -> Iterator[list[str]]:
    """Yields the texts of each row's users' turns, a last one that the row cuts off included."""
    user = [token for token in template.headers[USER].tolist() if token >= 0]
    for row in conversations.ids.tolist():
        turns, begin = [], len(template.opening)
        while begin < len(row):
            end = row.index(template.end, begin) if template.end in row[begin:] else len(row)
            turns.append(row[begin:end])
            begin = _after(row, user, end)
        yield tokenizer.decode_batch(turns)


def _after(row: list[int], header: list[int], begin: int) -> int:
    """Returns the place after the next header; the row's length without one."""
    for place in range(begin, len(row) - len(header)):
        if row[place : place + len(header)] == header:
            return place + len(header)
    return len(row)
