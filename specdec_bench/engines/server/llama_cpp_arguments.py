"""Translates the project's settings to the command line of llama.cpp's server."""

import re
import subprocess
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from specdec_bench.config.checkpoints import draft_checkpoint, resolve
from specdec_bench.config.schema.engine import LlamaCppServerEngine
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.config.schema.spec import DraftingSpec, NgramSpec
from specdec_bench.engines.extra_args import ExtraArguments
from specdec_bench.engines.server.adapter import OWN_ARGUMENTS
from specdec_bench.errors import ConfigError, EngineUnavailableError, first_line_of

TYPES: Mapping[str, str] = {
    "none": "none",
    "ngram": "ngram-simple",
    "draft_model": "draft-simple",
    "eagle3": "draft-eagle3",
    "mtp": "draft-mtp",
    "dflash": "draft-dflash",
}
"""Method -> its name in --spec-type."""
SETTINGS: Mapping[str, str] = {
    **OWN_ARGUMENTS,
    "alias": "model.path",
    "model": "model.path or engine.gguf_file",
    "ctx_size": "model.max_seq_len",
    "parallel": "engine.max_num_seqs",
    "batch_size": "engine.max_num_batched_tokens",
    "threads": "engine.num_threads",
    "gpu_layers": "engine.gpu_layers",
    "spec_type": "spec",
    "spec_draft_model": "spec.draft.path or engine.draft_gguf_file",
    "spec_draft_n_max": "spec.draft_length",
    "spec_ngram_simple_size_n": "spec.ngram_max",
    "spec_ngram_simple_size_m": "spec.draft_length",
}
"""Arguments that a setting decides."""
FIXED: Mapping[str, Any] = {
    "metrics": True,  # its counters
    "context_shift": False,  # a request that is too long ends, and loses none of its prompt
    "cache_ram": 0,  # no prompts of earlier requests
    "spec_draft_n_min": 0,
    "spec_draft_p_min": 0,  # as many drafts in every step
    "spec_ngram_simple_min_hits": 1,
}
"""Arguments whose values the project needs."""
EXTRA_ARGUMENTS = ExtraArguments(engine="llama.cpp", reference="llama-server --help", settings=SETTINGS, fixed=FIXED)
DISTORTING = ("spec_synth_len", "spec_synth_rates")
"""Arguments with which drafts are accepted at random."""

_FLAGS = re.compile(r"^(-{1,2}[\w-]+(?:,\s+-{1,2}[\w-]+)*)")
_TYPES = re.compile(r"^--spec-type ([\w,-]+)", re.MULTILINE)


class Release(NamedTuple):
    """What an installed llama-server can do, as it says itself."""

    version: str
    aliases: Mapping[str, str]
    """Every long flag, without dashes in front and with underscores, and the name that the project has for it."""
    types: tuple[str, ...]
    """Of --spec-type."""
    num_devices: int
    """GPUs that it finds."""


def refuse_environment(environment: Collection[str]) -> None:
    """Refuses arguments in the environment, which llama-server takes and no archive would tell.

    Raises:
        ConfigError: naming the first variable.
    """
    for name in sorted(environment):
        if name.startswith("LLAMA_ARG_"):
            argument = name.removeprefix("LLAMA_ARG_").lower()
            raise ConfigError(
                f"{name} is set: llama-server reads arguments from the environment; unset it, and pass "
                f"engine.extra_args.{argument}, or the setting that decides it"
            )


def read_release(binary: str) -> Release:
    """Asks the program for its version, its arguments and its devices. Takes no model.

    Raises:
        EngineUnavailableError: it is missing, or does not run here.
    """
    version, about, devices = (_ask(binary, flag) for flag in ("--version", "--help", "--list-devices"))
    found = re.search(r"^version: (.*)$", version, re.MULTILINE)
    listed = devices.partition("Available devices:")[2].splitlines()
    return Release(
        version=found[1].strip() if found else first_line_of(version),
        aliases=parse_flags(about),
        types=tuple(types[1].split(",")) if (types := _TYPES.search(about)) else (),
        num_devices=sum(bool(re.match(r"^  \w+: ", line)) for line in listed),
    )


def parse_flags(about: str) -> dict[str, str]:
    """Returns every long flag of a help text, and the name of the group that it is an alias in."""
    named = {*SETTINGS, *FIXED}
    aliases: dict[str, str] = {}
    for line in about.splitlines():
        if (match := _FLAGS.match(line)) is None:
            continue
        words = [word[2:].replace("-", "_") for word in re.split(r",\s+", match[1]) if word.startswith("--")]
        group = [word.removeprefix("no_") if word.startswith("no_") else word for word in words]
        canonical = next((word for word in group if word in named), group[0] if group else "")
        aliases |= dict.fromkeys(group, canonical)
    return aliases


def _ask(binary: str, flag: str) -> str:
    try:
        done = subprocess.run(
            [binary, flag], capture_output=True, text=True, errors="replace", stdin=subprocess.DEVNULL, timeout=60
        )
    except OSError as error:
        raise EngineUnavailableError(
            f"engine.binary={binary}: cannot be run ({error.strerror}); install llama.cpp, or give the path of its "
            "llama-server"
        ) from None
    except subprocess.TimeoutExpired:
        raise EngineUnavailableError(
            f"engine.binary={binary}: {flag} is not answered; give llama.cpp's llama-server"
        ) from None
    if done.returncode != 0:
        raise EngineUnavailableError(
            f"engine.binary={binary}: {flag} ends with status {done.returncode}; give llama.cpp's llama-server, built "
            "for this machine"
        )
    return done.stdout + done.stderr


def refuse_dtype(config: ExperimentConfig) -> None:
    """Refuses a type of the weights.

    Raises:
        ConfigError: one is asked for.
    """
    if config.model.dtype != "auto":
        raise ConfigError(
            f"model.dtype={config.model.dtype}: llama.cpp computes with the types of the GGUF file; pass "
            "model.dtype=auto"
        )


def server_arguments(config: ExperimentConfig, release: Release) -> dict[str, Any]:
    """Returns the server's arguments by their long names with underscores.

    Raises:
        ConfigError: a setting that llama.cpp does not take, or no GGUF file.
        EngineUnavailableError: the release lacks the method.
    """
    engine, spec = config.engine, config.spec
    assert isinstance(engine, LlamaCppServerEngine)
    refuse_dtype(config)
    if config.model.max_seq_len is None:
        raise ConfigError(
            "model.max_seq_len=null: llama.cpp reserves every request's context when it starts; pass "
            "model.max_seq_len=TOKENS, prompt and output together"
        )
    assert engine.max_num_seqs is not None  # compose fills it
    kind = TYPES[spec.name]
    if kind not in release.types:
        raise EngineUnavailableError(
            f"spec={spec.name}: {engine.binary} ({release.version}) has no --spec-type {kind}; install a newer release "
            "of llama.cpp"
        )
    made: dict[str, Any] = {
        "model": str(gguf_file(config.model.path, engine.gguf_file, "model.path", "engine.gguf_file")),
        "ctx_size": config.model.max_seq_len * engine.max_num_seqs,
        "parallel": engine.max_num_seqs,
        "batch_size": engine.max_num_batched_tokens,
        "threads": engine.num_threads,
        "gpu_layers": engine.gpu_layers,
        "spec_type": kind,
    }
    if isinstance(spec, NgramSpec):
        made |= {"spec_ngram_simple_size_n": spec.ngram_max, "spec_ngram_simple_size_m": spec.draft_length}
    elif isinstance(spec, DraftingSpec):
        made["spec_draft_n_max"] = spec.draft_length
        if (draft := draft_checkpoint(config)) is not None:
            file = gguf_file(draft.path, engine.draft_gguf_file, "spec.draft.path", "engine.draft_gguf_file")
            made["spec_draft_model"] = str(file)
    fixed = {
        name: value
        for name, value in FIXED.items()
        if name in release.aliases and (not name.startswith("spec_") or name.startswith(_prefix(spec)))
    }
    extra = {release.aliases.get(name, name): value for name, value in engine.extra_args.items()}
    for name in DISTORTING:
        if name in extra:
            raise ConfigError(f"engine.extra_args.{name}: drafts would be accepted at random; leave it out")
    extra = EXTRA_ARGUMENTS.check(extra, release.aliases, release.version)
    return {name: value for name, value in {**made, **fixed, **extra}.items() if value is not None}


def _prefix(spec: object) -> tuple[str, ...]:
    """Returns what the names of a method's own arguments begin with."""
    if isinstance(spec, NgramSpec):
        return ("spec_ngram_simple",)
    return ("spec_draft",) if isinstance(spec, DraftingSpec) else ()


def gguf_file(path: str, name: str | None, key: str, name_key: str) -> Path:
    """Returns a checkpoint's GGUF file: the named one of its folder, or the only one.

    Raises:
        ConfigError: there is none, or there are several and none is named.
    """
    folder = Path(resolve(path))
    if not folder.is_dir():
        raise ConfigError(
            f"{key}={path}: llama.cpp needs a folder on this machine, with config.json, the tokenizer and a GGUF file"
        )
    if name is not None:
        if not (folder / name).is_file():
            raise ConfigError(f"{name_key}={name}: {folder} has no such file")
        return folder / name
    found = sorted(folder.glob("*.gguf"))
    if not found:
        raise ConfigError(f"{key}={path}: the folder has no GGUF file; make one with llama.cpp's convert_hf_to_gguf.py")
    if len(found) > 1:
        names = ", ".join(file.name for file in found)
        raise ConfigError(f"{name_key}=null: {folder} has several GGUF files; name one of {names}")
    return found[0]


def command_line(arguments: Mapping[str, Any]) -> list[str]:
    """Returns the arguments as llama-server's command line has them."""
    words: list[str] = []
    for name, value in arguments.items():
        flag = name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            words += [f"--{flag}", ",".join(map(str, value)) if isinstance(value, list) else str(value)]
    return words
