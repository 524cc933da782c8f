"""Compares an engine's settings and outputs with the values that were asked for.

Engines clamp, round and cut values silently. Adapters read back the values in the engine's own objects. A difference
that is known before the run is refused; any other is recorded, with a warning.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec

from specdec_bench.errors import ConfigError, EngineError
from specdec_bench.records.manifest import Difference, EngineDescription
from specdec_bench.records.request import FinishReason, GenerationRequest, RequestSampling

CHECKPOINTS = ("model.path", "model.tokenizer", "model.revision", "spec.draft.path", "spec.draft.revision")
"""Settings that are not compared: engines resolve them to folders, and the checkpoints' fingerprints identify them."""

TOLERATED = ("seed",)
"""Fields of a request's sampling that an engine may ignore, with a warning. Any other difference is refused."""


def differences(triples: Iterable[tuple[str, Any, Any]]) -> tuple[Difference, ...]:
    """Returns the settings whose values in the engine differ from those asked for.

    Args:
        triples: each setting's name, the value asked for and the engine's value. None and "auto" ask for nothing. Only
            single values are compared: engines resolve others into objects of their own.
    """
    return tuple(
        Difference(name=name, asked=asked, got=got)
        for name, asked, got in triples
        if isinstance(asked, bool | int | float | str)
        and asked != "auto"
        and name not in CHECKPOINTS
        and _normalize(asked) != _normalize(got)
    )


def _normalize(value: Any) -> Any:
    """Returns a value for comparison: numbers unchanged, others (a dtype, an enum's member) as lower-case text."""
    if value is None or isinstance(value, bool | int | float):
        return value
    return str(value).rpartition(".")[2].lower() if not isinstance(value, str) else value.lower()


def check_sampling(engine: str, asked: RequestSampling, made: Mapping[str, Any]) -> tuple[Difference, ...]:
    """Returns the differences in a request's sampling that are tolerated: the seed.

    Args:
        engine: its name, for the message.
        asked: a request's sampling.
        made: the values in the engine's own object, by the names of RequestSampling's fields.

    Raises:
        ConfigError: the engine changes a value.
    """
    wanted, got = (_comparable(values) for values in (msgspec.structs.asdict(asked), made))
    found = differences(
        (name if name in TOLERATED else f"sampling.{name}", value, got[name]) for name, value in wanted.items()
    )
    for difference in found:
        if difference.name not in TOLERATED:
            raise ConfigError(
                f"{difference.name}={difference.asked}: engine={engine} makes it {difference.got}; use a value that it "
                "does not change"
            )
    return found


def _comparable(sampling: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a sampling's fields without those that have no effect: greedy decoding has no top_p, top_k or seed."""
    fields = {**sampling, "stop_token_ids": str(sorted(set(sampling["stop_token_ids"])))}
    if fields["temperature"] == 0:
        fields |= {"top_p": 1.0, "top_k": 0, "seed": 0}
    return fields


def refuse_another_method(description: EngineDescription) -> None:
    """Refuses an engine whose method differs from the cell's label.

    Raises:
        EngineError: naming the setting, the value asked for and the engine's value.
    """
    for difference in description.differences:
        if difference.name.partition(".")[0] == "spec":
            raise EngineError(
                f"{difference.name}: {difference.asked} was asked for, and the engine runs with {difference.got}"
            )


def fault(
    request: GenerationRequest,
    token_ids: Sequence[int],
    finish_reason: FinishReason | None,
    num_prompt_tokens: int | None,
) -> str | None:
    """Returns how a finished request differs from what was asked for; None if it does not.

    Args:
        request: as it was sent.
        token_ids: the output.
        finish_reason: the engine's.
        num_prompt_tokens: of the prompt as the engine received it; None if the engine does not say.
    """
    sampling, num_tokens = request.sampling, len(token_ids)
    if finish_reason is None:
        return "the engine's stream ended without a finish reason"
    if num_prompt_tokens is not None and num_prompt_tokens != len(request.prompt_token_ids):
        return f"the engine took {num_prompt_tokens} of the prompt's {len(request.prompt_token_ids)} tokens"
    if num_tokens > sampling.max_new_tokens:
        return f"the engine gave {num_tokens} tokens where {sampling.max_new_tokens} were the limit"
    if finish_reason == "length" and num_tokens < sampling.max_new_tokens:
        return f"the engine ended it after {num_tokens} of {sampling.max_new_tokens} tokens, for lack of room"
    # An engine may leave out the stop token itself. An otherwise empty reply then has no token to check.
    last = token_ids[-1] if num_tokens else next(iter(sampling.stop_token_ids), None)
    if finish_reason == "stop" and last not in sampling.stop_token_ids:
        return f"the engine stopped at token {last}, which is none of sampling's stops {list(sampling.stop_token_ids)}"
    if num_tokens < sampling.min_new_tokens:
        return f"the engine stopped after {num_tokens} tokens, of at least {sampling.min_new_tokens}"
    return None
