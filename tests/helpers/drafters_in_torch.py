"""The bundled drafters in plain torch, read from the files that are shipped.

A second opinion on the engines and on training/. Nothing is shared with either: no `transformers` model, no module of
training/, no tensor that was not read from model.safetensors. Each drafter follows its paper and the layout that its
config.json names. The route differs too. Training runs all rows again for each draft position, under masks of chains or
diagonals. Here the rows of the true tokens run once for each request, and a draft goes on from their keys and values.

Conventions:

- Tensors have no batch axis: (rows, width), and (heads, rows, head width) in attention.
- Row i of the target's states belongs to token i. The target's logits at i are those of token i + 1.
- The anchor is the index of the bonus token, the last token that is known. The states end in the row before it, and the
  first draft is the token after it.
- Sources: EAGLE 2401.15077, EAGLE-3 2503.01840, Medusa 2401.10774, MiMo 2505.07608, DFlash 2602.06036, PARD 2504.18583,
  P-EAGLE 2602.01469, DSpark 2607.05147 (arXiv).
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import silu

from tests.helpers.llama_in_torch import Checkpoint, Layer, Llama, Past, States, first

Draft = Callable[[int, int], Tensor]
"""(anchor, draft length K) -> the logits, (K, vocabulary), of K greedy drafts."""


class Drafter(ABC):
    """Reads a request once, then drafts after any of its tokens."""

    def __init__(self, checkpoint: Checkpoint, target: Llama) -> None:
        self.checkpoint, self.target = checkpoint, target

    @abstractmethod
    def read(self, tokens: Tensor, states: States) -> Draft:
        """Returns what drafts after tokens[: anchor + 1], for any anchor from 1 on."""


class DraftModel(Drafter):
    """A language model that writes on by itself."""

    def __init__(self, checkpoint: Checkpoint, target: Llama) -> None:
        super().__init__(checkpoint, target)
        self.model = Llama(checkpoint)

    def read(self, tokens: Tensor, states: States) -> Draft:
        own, past = self.model.run(tokens)

        def draft(anchor: int, k: int) -> Tensor:
            rows, seen = [self.model.logits(own.normed[anchor])], first(past, anchor + 1)
            while len(rows) < k:
                new, seen = self.model.run(rows[-1].argmax(-1, keepdim=True), seen)
                rows.append(self.model.logits(new.normed[-1]))
            return torch.stack(rows)

        return draft


class DraftModelWithoutTheFirstToken(DraftModel):
    """A draft model as SGLang 0.5.20 runs it: the prompt's first token is not in it.

    SGLang's worker for draft models takes over how the worker of EAGLE heads prepares a prompt: the tokens move one
    place to the left (`_draft_extend_for_prefill` in `speculative/eagle_worker_v2.py`). That is right for a head, which
    reads a token together with the state of the token before it. Drafts get worse; outputs stay right.
    """

    def read(self, tokens: Tensor, states: States) -> Draft:
        draft = super().read(tokens[1:], states)
        return lambda anchor, k: draft(anchor - 1, k)


class Pard(DraftModel):
    """A draft model that reads K - 1 masks after the bonus token. Each row writes the token after its own."""

    def read(self, tokens: Tensor, states: States) -> Draft:
        own, past = self.model.run(tokens)

        def draft(anchor: int, k: int) -> Tensor:
            masks = torch.full((k - 1,), self.checkpoint.config["pard_token"])
            of_masks, _ = self.model.run(masks, first(past, anchor + 1))
            return self.model.logits(torch.cat([own.normed[anchor, None], of_masks.normed]))

        return draft


class Medusa(Drafter):
    """Head k reads the target's last normed state and writes the token k + 2 places after it."""

    rows_before_anchor = 1

    def read(self, tokens: Tensor, states: States) -> Draft:
        heads = self.checkpoint.tensors

        def draft(anchor: int, k: int) -> Tensor:
            state = states.normed[anchor - self.rows_before_anchor]
            rows = [state + silu(heads[f"blocks.{head}.layers.0.weight"] @ state) for head in range(k)]
            return torch.stack(rows) @ heads["lm_head.weight"].T

        return draft


class OneLayer(Drafter):
    """A layer over pairs of a token's embedding and a state of the token before it; it goes on from its own states."""

    prefix: str
    """Of the names of the layer's tensors."""

    def __init__(self, checkpoint: Checkpoint, target: Llama) -> None:
        super().__init__(checkpoint, target)
        self.layer = Layer(checkpoint.below(self.prefix))

    @abstractmethod
    def given(self, states: States) -> Tensor:
        """Returns the states that the target hands over."""

    @abstractmethod
    def step(self, embeds: Tensor, hidden: Tensor, past: Past | None) -> tuple[Tensor, Past]:
        """Returns the states of rows that follow `past`, and the keys and values of both."""

    @abstractmethod
    def logits(self, hidden: Tensor) -> Tensor:
        """Returns the logits of the layer's own states."""

    def read(self, tokens: Tensor, states: States) -> Draft:
        own, past = self.step(self.target.embed(tokens[1:]), self.given(states)[:-1], None)

        def draft(anchor: int, k: int) -> Tensor:
            hidden, seen = own[anchor - 1, None], first(past, anchor)
            rows = [self.logits(hidden)]
            while len(rows) < k:
                hidden, seen = self.step(self.target.embed(rows[-1].argmax(-1)), hidden, seen)
                rows.append(self.logits(hidden))
            return torch.cat(rows)

        return draft


class Eagle(OneLayer):
    """EAGLE-1: no norm of the layer's input, none before the target's output projection."""

    prefix = "layers.0."

    def given(self, states: States) -> Tensor:
        return states.normed

    def step(self, embeds: Tensor, hidden: Tensor, past: Past | None) -> tuple[Tensor, Past]:
        layer = self.layer
        x = self.checkpoint.linear("fc", torch.cat([embeds, hidden], -1))
        mixed, both = layer.attend(x, past[0] if past else None)
        x = x + mixed
        return x + layer.feed_forward(x), [both]

    def logits(self, hidden: Tensor) -> Tensor:
        return self.target.logits(hidden)


class Mtp(OneLayer):
    """MiMo's layer: the state first, before the target's final norm; the first position's token is not read."""

    prefix = "model.mtp_layers.0."

    def given(self, states: States) -> Tensor:
        return states.outputs[-1]

    def step(self, embeds: Tensor, hidden: Tensor, past: Past | None) -> tuple[Tensor, Past]:
        layer = self.layer
        if past is None:
            embeds = torch.cat([torch.zeros_like(embeds[:1]), embeds[1:]])
        pairs = [layer.norm("hidden_layernorm", hidden), layer.norm("token_layernorm", embeds)]
        x = layer.weights.linear("input_proj", torch.cat(pairs, -1))
        mixed, both = layer.attend(layer.norm("input_layernorm", x), past[0] if past else None)
        x = x + mixed
        return layer.norm("final_layernorm", x + layer.feed_forward(x)), [both]

    def logits(self, hidden: Tensor) -> Tensor:
        return self.target.logits(hidden)


class MtpAfterTheNorm(Mtp):
    """MiMo's layer as SGLang 0.5.20 runs it: its target hands over the state after the final norm."""

    def given(self, states: States) -> Tensor:
        return states.normed


class Eagle3(OneLayer):
    """EAGLE-3: the inputs of three of the target's layers, fused; it goes on from its state before its own norm."""

    prefix = "midlayer."

    def given(self, states: States) -> Tensor:
        inputs_of = self.checkpoint.config["eagle_aux_hidden_state_layer_ids"]
        return self.checkpoint.linear("fc", torch.cat([states.outputs[layer - 1] for layer in inputs_of], -1))

    def step(self, embeds: Tensor, hidden: Tensor, past: Past | None) -> tuple[Tensor, Past]:
        layer = self.layer
        pairs = [layer.norm("input_layernorm", embeds), layer.norm("hidden_norm", hidden)]
        mixed, both = layer.attend(torch.cat(pairs, -1), past[0] if past else None)
        x = hidden + mixed
        return x + layer.feed_forward(x), [both]

    def logits(self, hidden: Tensor) -> Tensor:
        return self.checkpoint.linear("lm_head", self.checkpoint.norm("norm", hidden))


class Peagle(Eagle3):
    """P-EAGLE: rows of the mask token and a trained state stand for the drafts. It shares the target's projection."""

    def read(self, tokens: Tensor, states: States) -> Draft:
        own, past = self.step(self.target.embed(tokens[1:]), self.given(states)[:-1], None)
        mask = self.target.embed(torch.tensor([self.checkpoint.config["ptd_token_id"]]))
        mask_state = self.checkpoint.linear("fc", self.checkpoint.tensors["mask_hidden"])

        def draft(anchor: int, k: int) -> Tensor:
            embeds, hidden = mask.expand(k - 1, -1), mask_state.expand(k - 1, -1)
            of_masks, _ = self.step(embeds, hidden, first(past, anchor))
            return self.logits(torch.cat([own[anchor - 1, None], of_masks]))

        return draft

    def logits(self, hidden: Tensor) -> Tensor:
        return self.target.logits(self.checkpoint.norm("norm", hidden))


class Dflash(Drafter):
    """Layers that fill a block of masks in one pass. A mask's row writes the token at its own place."""

    def given(self, states: States) -> Tensor:
        """Returns the fused outputs of the target's layers, which the layers read as keys and values."""
        outputs_of = self.checkpoint.config["dflash_config"]["target_layer_ids"]
        fused = self.checkpoint.linear("fc", torch.cat([states.outputs[layer] for layer in outputs_of], -1))
        return self.checkpoint.norm("hidden_norm", fused)

    def read_context(self, layers: list[Layer], context: Tensor) -> Past:
        """Returns each layer's keys and values of the context."""
        return [layer.keys_and_values(context, 0) for layer in layers]

    def layers(self) -> list[Layer]:
        """Returns the drafter's own."""
        numbers = range(self.checkpoint.config["num_hidden_layers"])
        return [Layer(self.checkpoint.below(f"layers.{number}.")) for number in numbers]

    def of_block(self, layers: list[Layer], block: Tensor, past: Past) -> Tensor:
        """Returns the normed states of a block's rows, which see the context and one another."""
        x = self.target.embed(block)
        for layer, context in zip(layers, past, strict=True):
            mixed, _ = layer.attend(layer.norm("input_layernorm", x), context, is_causal=False)
            x = x + mixed
            x = x + layer.feed_forward(x)
        return self.checkpoint.norm("norm", x)

    def read(self, tokens: Tensor, states: States) -> Draft:
        config, layers = self.checkpoint.config, self.layers()
        past = self.read_context(layers, self.given(states))

        def draft(anchor: int, k: int) -> Tensor:
            masks = torch.full((k,), config["dflash_config"]["mask_token_id"])
            block = self.of_block(layers, torch.cat([tokens[anchor, None], masks]), first(past, anchor))
            return self.target.logits(block[1:])

        return draft


class DflashWithOneKeyNorm(Dflash):
    """DFlash as vLLM 0.32's CPU build computes it: every layer's context keys take the first layer's `k_norm`.

    vLLM norms the context keys of all layers in one call of `ops.rms_norm`, with a row of weights for each layer. The
    CPU's kernel reads the first row alone (`_normalize_context_k` in `models/qwen3_dflash.py`). Drafts get worse;
    outputs stay right. The query rows' own keys are not affected.
    """

    def read_context(self, layers: list[Layer], context: Tensor) -> Past:
        return [layer.keys_and_values(context, 0, key_norm=layers[0].key_norm) for layer in layers]


class Dspark(Dflash):
    """DFlash's layers over a block whose rows write the next token, and a bias by the token before, left to right."""

    def read(self, tokens: Tensor, states: States) -> Draft:
        config, layers = self.checkpoint.config, self.layers()
        past = self.read_context(layers, self.given(states))
        after, table = (self.checkpoint.tensors[f"markov_head.markov_w{n}.weight"] for n in (2, 1))

        def draft(anchor: int, k: int) -> Tensor:
            masks = torch.full((k - 1,), config["mask_token_id"])
            block = self.of_block(layers, torch.cat([tokens[anchor, None], masks]), first(past, anchor))
            rows, before = [], tokens[anchor]
            for row in self.target.logits(block):
                rows.append(row + after @ table[before])
                before = rows[-1].argmax()
            return torch.stack(rows)

        return draft


DRAFTERS: dict[str, type[Drafter]] = {
    "draft": DraftModel,
    "eagle": Eagle,
    "eagle3": Eagle3,
    "medusa": Medusa,
    "mtp": Mtp,
    "dflash": Dflash,
    "dspark": Dspark,
    "pard": Pard,
    "peagle": Peagle,
}
"""By the bundled folder."""
