"""Reads a checkpoint's files as transformers, vLLM and SGLang do, but needs none of them, nor torch.

Each fact comes with the name of the file that states it.
"""

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from specdec_bench.checkpoints.files import find_json, folder_stamp
from specdec_bench.checkpoints.templates import ChatTemplate, chat_templates
from specdec_bench.errors import ConfigError
from specdec_bench.records import checkpoint
from specdec_bench.records.checkpoint import EndOfSequence, StatedFacts, TemplateIdentity

_NESTED = ("text_config", "llm_config", "language_config", "thinker_config")
"""Keys under which a multimodal model's configuration keeps that of its language model."""

_CONTEXT_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)
"""Source: vLLM's ModelArchConfigConvertorBase.derive_max_model_len_and_key; the smallest one holds."""

_TOKENIZER_FILES = ("tokenizer_config.json", "special_tokens_map.json")

_UNSCALED_ROPE = ("default", "su", "longrope", "llama3", "yarn", "deepseek_yarn", "deepseek_llama_scaling")
"""Kinds of rope whose `factor` does not multiply max_position_embeddings. Source: vLLM's _get_and_verify_max_len."""


class Stated(NamedTuple):
    """A value and the file that states it."""

    value: Any
    file: str


class EndTokens(msgspec.Struct, frozen=True):
    """The end-of-sequence tokens that one file names, and whether requests end at them."""

    file: str
    token_ids: tuple[int, ...]
    used: bool = True


class CheckpointFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The facts that the files of one folder state."""

    folder: Path
    config: dict[str, Any]
    """config.json; empty where there is none, as in a tokenizer's folder."""
    end_tokens: tuple[EndTokens, ...]
    context_length: Stated | None
    """Positions of one sequence, prompt and output together; None if there is no limit, or none is stated."""
    vocab_size: Stated | None
    dtype: Stated | None
    model_type: Stated | None
    architectures: Stated | None
    chat_templates: tuple[ChatTemplate, ...]
    token_ids: dict[str, int] | None
    """Token -> id; None if tokenizer.json does not list them so."""

    @property
    def end_token_ids(self) -> frozenset[int]:
        """The ids that end a reply, according to the model's files."""
        return frozenset(
            i for found in self.end_tokens if found.used and found.file not in _TOKENIZER_FILES for i in found.token_ids
        )

    @property
    def tokenizer_end_token_ids(self) -> frozenset[int]:
        """The same according to the tokenizer's files; empty if only its own code knows them."""
        return frozenset(i for found in self.end_tokens if found.file in _TOKENIZER_FILES for i in found.token_ids)

    def summary(self) -> StatedFacts:
        """Returns the facts for the manifest, with templates as hashes."""
        return StatedFacts(
            end_of_sequence=tuple(
                EndOfSequence(file=found.file, token_ids=tuple(found.token_ids), used=found.used)
                for found in self.end_tokens
            ),
            context_length=_recorded(self.context_length),
            vocab_size=_recorded(self.vocab_size),
            dtype=_recorded(self.dtype),
            model_type=_recorded(self.model_type),
            architectures=_recorded(self.architectures),
            chat_templates={
                template.name: TemplateIdentity(file=template.file, sha256=template.sha256)
                for template in self.chat_templates
            },
        )


def _recorded(fact: Stated | None) -> checkpoint.Stated | None:
    return None if fact is None else checkpoint.Stated(value=fact.value, file=fact.file)


def read_facts(folder: Path) -> CheckpointFacts:
    """Returns the facts that a folder's files state.

    Raises:
        ConfigError: a file cannot be read, or states something impossible; names the file.
    """
    return _read(folder, folder_stamp(folder))


@functools.lru_cache(maxsize=8)  # a sweep's cells have the same checkpoints, and a vocabulary takes 0.1 s to parse
def _read(folder: Path, _: frozenset[tuple[str, int, int]]) -> CheckpointFacts:
    config = find_json(folder / "config.json") or {}
    _check_kinds(folder / "config.json", config)
    tokenizer_config = find_json(folder / "tokenizer_config.json") or {}
    tokenizer = _tokenizer(folder)
    text = language_config(config)
    return CheckpointFacts(
        folder=folder,
        config=config,
        end_tokens=tuple(_end_tokens(folder, config, tokenizer_config, tokenizer)),
        context_length=_stated(context_length(config)),
        vocab_size=_stated(_positive(text.get("vocab_size"))),
        dtype=_stated(next((d for c in (config, text) for k in ("dtype", "torch_dtype") if (d := c.get(k))), None)),
        model_type=_stated(config.get("model_type")),
        architectures=_stated(config.get("architectures")),
        chat_templates=chat_templates(folder, tokenizer_config),
        token_ids=tokenizer and _token_ids(tokenizer),
    )


def _check_kinds(path: Path, config: Mapping[str, Any]) -> None:
    """Refuses a config.json that has another type where a list or an object is expected.

    Raises:
        ConfigError: naming the file and the key.
    """
    kinds = {"architectures": list} | dict.fromkeys(_NESTED, dict)
    for key, kind in kinds.items():
        value = config.get(key)
        if value is not None and not isinstance(value, kind):
            what = "a list" if kind is list else "an object"
            raise ConfigError(f"{path}: {key}={value!r}: must be {what}; the checkpoint is damaged")


def language_config(config: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the part of a configuration that describes the language model: the whole, or a nested one."""
    for key in _NESTED:
        if isinstance(nested := config.get(key), dict) and nested:
            return language_config(nested)
    return config


def context_length(config: Mapping[str, Any]) -> int | None:
    """Returns how many positions a configuration gives a sequence, rope's scaling included; None if it states none.

    If engines read it differently (YaRN), the longest applies: an engine with a stricter reading reports it itself.
    """
    text = language_config(config)
    stated = [length for key in _CONTEXT_KEYS if (length := _positive(text.get(key))) is not None]
    length = _positive(text.get("model_max_length")) or min(stated, default=None)
    if length is None or "gemma3" in str(config.get("model_type")):  # whose positions are scaled already
        return length
    scaled = [length]
    for rope in _rope_parameters(text):
        kind, factor = rope.get("rope_type", rope.get("type")), rope.get("factor")
        if not isinstance(factor, int | float) or factor <= 0:
            continue
        if kind not in _UNSCALED_ROPE:
            scaled.append(int(length * factor))
        elif kind == "yarn" and (original := _positive(rope.get("original_max_position_embeddings"))) is not None:
            scaled.append(int(original * factor))
    return max(scaled)


def _rope_parameters(text: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yields rope's parameters; if layers differ, those of each kind of layer."""
    for key in ("rope_parameters", "rope_scaling"):
        if isinstance(rope := text.get(key), dict):
            nested = [value for value in rope.values() if isinstance(value, dict)]
            yield from nested or [rope]


def _end_tokens(
    folder: Path, config: dict[str, Any], tokenizer_config: dict[str, Any], tokenizer: dict[str, Any] | None
) -> Iterator[EndTokens]:
    """Yields the end-of-sequence tokens that each file names.

    As in transformers and vLLM, requests end at the generation config's tokens, or else the config's, and at the
    tokenizer's.
    """
    generation = find_json(folder / "generation_config.json") or {}
    of_generation = _as_token_ids(folder / "generation_config.json", generation.get("eos_token_id"))
    if of_generation:
        yield EndTokens("generation_config.json", of_generation)
    of_config = _as_token_ids(
        folder / "config.json", config.get("eos_token_id", language_config(config).get("eos_token_id"))
    )
    if of_config:
        yield EndTokens("config.json", of_config, used=not of_generation)
    file, token = "tokenizer_config.json", tokenizer_config.get("eos_token")
    if "eos_token" not in tokenizer_config:
        file, token = "special_tokens_map.json", (find_json(folder / "special_tokens_map.json") or {}).get("eos_token")
    if isinstance(token, dict):
        token = token.get("content")
    if isinstance(token, str):
        token_id = _id_of(token, folder, tokenizer_config, tokenizer)
        if token_id is not None:
            yield EndTokens(file, (token_id,))


def _as_token_ids(path: Path, value: Any) -> tuple[int, ...]:
    """Returns one id or several as a tuple, without negative ones, which some files use for none.

    Raises:
        ConfigError: it is neither.
    """
    ids = value if isinstance(value, list) else [] if value is None else [value]
    for token_id in ids:
        if not isinstance(token_id, int) or isinstance(token_id, bool):
            raise ConfigError(f"{path}: eos_token_id={value!r} is not a token id; the checkpoint is damaged")
    return tuple(sorted({token_id for token_id in ids if token_id >= 0}))


def _id_of(token: str, folder: Path, tokenizer_config: dict[str, Any], tokenizer: dict[str, Any] | None) -> int | None:
    """Returns a token's id by the first file that lists it; None where only the tokenizer's own code knows."""
    decoder = tokenizer_config.get("added_tokens_decoder")
    for token_id, entry in decoder.items() if isinstance(decoder, dict) else ():
        if isinstance(entry, dict) and entry.get("content") == token and token_id.isdigit():
            return int(token_id)
    known = _token_ids(tokenizer) if tokenizer is not None else None
    for listed in (known, find_json(folder / "added_tokens.json"), find_json(folder / "vocab.json")):
        if listed is not None and isinstance(token_id := listed.get(token), int):
            return token_id
    return None


def _tokenizer(folder: Path) -> dict[str, Any] | None:
    """Returns tokenizer.json.

    Raises:
        ConfigError: it holds no tokenizer.
    """
    tokenizer = find_json(folder / "tokenizer.json")
    if tokenizer is not None and not isinstance(tokenizer.get("model"), dict):
        raise ConfigError(f"{folder / 'tokenizer.json'}: has no model, so no vocabulary; the checkpoint is damaged")
    return tokenizer


def _token_ids(tokenizer: dict[str, Any]) -> dict[str, int] | None:
    vocabulary = tokenizer["model"].get("vocab")
    if isinstance(vocabulary, list):  # a unigram model's: the position is the id
        vocabulary = {entry[0]: index for index, entry in enumerate(vocabulary) if isinstance(entry, list) and entry}
    if not isinstance(vocabulary, dict):
        return None
    added = tokenizer.get("added_tokens") or []
    return {
        **vocabulary,
        **{entry["content"]: entry["id"] for entry in added if isinstance(entry, dict) and "content" in entry},
    }


def _positive(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else None


def _stated(value: Any) -> Stated | None:
    return None if value is None else Stated(value, "config.json")
