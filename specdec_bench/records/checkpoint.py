"""What the manifest keeps of a checkpoint: which files it is made of, and what they say."""

import msgspec
from msgspec import UNSET, UnsetType

from specdec_bench.records.json_types import Json
from specdec_bench.records.request import Record


class FileIdentity(Record, frozen=True, kw_only=True, omit_defaults=True):
    """One file; it has one of the two hashes."""

    size: int
    """In bytes."""
    sha256: str | None = None
    """Of the whole file."""
    sampled_sha256: str | None = None
    """Of windows of a large one."""


class Fingerprint(Record, frozen=True, kw_only=True):
    """The identity of a checkpoint, or of a tokenizer that lies by itself."""

    path: str
    """What the user asked for: a folder, a hub id, `bundled:NAME`, `fetched:NAME` or `trained:NAME`."""
    revision: str | None
    """The one asked for."""
    commit: str | None
    """Of a hub snapshot, read from its folder's name."""
    fingerprint: str
    """sha256 over all files."""
    files: dict[str, FileIdentity]
    """By name below the folder."""


class Stated(Record, frozen=True, kw_only=True):
    """What a file says."""

    value: Json
    file: str


class EndOfSequence(Record, frozen=True, kw_only=True):
    """The end-of-sequence tokens that one file names."""

    file: str
    token_ids: tuple[int, ...]
    used: bool
    """Whether requests end at them."""


class TemplateIdentity(Record, frozen=True, kw_only=True):
    """A chat template."""

    file: str
    sha256: str


class StatedDrafter(Record, frozen=True, kw_only=True):
    """The kind of drafter that a checkpoint's files show."""

    kind: str
    """model, pard, eagle, eagle3, peagle, medusa, dflash, mtp, ...; see `specdec_bench.checkpoints.drafter_kind`."""
    sign: str
    """The evidence: an architecture, a key of config.json, or a tensor."""


class StatedFacts(Record, frozen=True, kw_only=True):
    """What a checkpoint's files say; None where none of them does, or an older archive did not read it."""

    end_of_sequence: tuple[EndOfSequence, ...] = ()
    context_length: Stated | None = None
    vocab_size: Stated | None = None
    dtype: Stated | None = None
    model_type: Stated | None = None
    architectures: Stated | None = None
    chat_templates: dict[str, TemplateIdentity] = msgspec.field(default_factory=dict)
    drafter: StatedDrafter | None = None
    """Of a draft; None where nothing tells its kind."""
    weights: dict[str, Json] | None = None
    """Counts and a hash of all names, shapes and types; or `error`, why those cannot be told. None of a tokenizer."""


class Checkpoint(Fingerprint, frozen=True, kw_only=True):
    """A checkpoint of a run."""

    facts: StatedFacts | UnsetType = UNSET
    """Unset in archives of before they were read."""
    vocabulary_differences: int | UnsetType = UNSET
    """Of a draft: entries that only one of the two vocabularies has."""
    end_token_ids: tuple[int, ...] | UnsetType = UNSET
    """Of the target: the tokens at which requests ended."""
