"""`specdec-bench prepare`: writes a checked and pinned dataset as one parquet file that records its source.

The file holds every prompt as the runs get it, and in its metadata, under `specdec_bench`, a JSON object: format,
dataset, options, source, revision, licence, source_files (name -> sha256), sha256 (of the prompts, as the manifest of a
run over all of them has it), num_prompts, num_turns, categories, unused (what is not used of the
source, as `specdec_bench.records.unused` says), and made_of (of SPEED-Bench: the sets that its
placeholders were made of, and their versions). It holds no time and no path, so that the same source
gives the same bytes with the same pyarrow. `dataset=prepared dataset.path=FILE` reads it.
"""

import hashlib
import json
import os
import secrets
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from specdec_bench import datasets
from specdec_bench.config.checkpoints import ASSETS
from specdec_bench.config.schema.dataset import (
    DatasetConfig,
    DemoDataset,
    HFDataset,
    MTBenchDataset,
    PreparedDataset,
    RandomDataset,
    SpeedBenchDataset,
)
from specdec_bench.config.schema.experiment import OPTIONS, field_names
from specdec_bench.datasets import hf, mt_bench
from specdec_bench.datasets.rows import read_rows, required_path
from specdec_bench.datasets.speed_bench import source
from specdec_bench.errors import ConfigError, DatasetError, first_line
from specdec_bench.records.prompts_hash import PromptsDigest
from specdec_bench.records.request import Prompt
from specdec_bench.records.unused import Unused

METADATA_KEY = b"specdec_bench"
FORMAT = 1
_ROWS_AT_ONCE = 256
_SELECTION = ("num_prompts", "num_turns", "categories", "min_input_tokens", "max_input_tokens")


class Original(NamedTuple):
    """A known file's origin, by its sha256."""

    source: str
    revision: str


ORIGINALS = {
    "119565adbab82227089cefdb44c8d7e2cf04dc0a0ec233634c82e7d4e2a944f7": Original(
        "lm-sys/FastChat, fastchat/llm_judge/data/mt_bench/question.jsonl", "0e6d3e4"
    ),
    "4b6d33e79484f9841c487ee87d1cf6aa8c6066f61d5d482ff09e5a007fafdf04": Original(
        "hemingkx/Spec-Bench, data/spec_bench/question.jsonl", "fd2c1cd"
    ),
}
LICENCES = {
    "demo": "Apache-2.0",
    "mt_bench": "Apache-2.0",
    "spec_bench": "Apache-2.0",
    "speed_bench": "NVIDIA Evaluation Dataset License (License.pdf of nvidia/SPEED-Bench on the Hugging Face hub)",
}
TO_BE_ACCEPTED = ("speed_bench",)


def dataset_config(name: str, overrides: Sequence[str]) -> DatasetConfig:
    """Returns the dataset's configuration, as `dataset=NAME` and these overrides (`dataset.path=FILE`) would give it.

    Raises:
        ConfigError: there is no such dataset, it cannot be prepared, or an override does not fit it.
    """
    made_here = (RandomDataset, PreparedDataset)
    sources = [option for option, schema in OPTIONS["dataset"].items() if schema not in made_here]
    if name not in sources:
        raise ConfigError(f"{name}: this dataset cannot be prepared; choose one of {', '.join(sources)}")
    node = OmegaConf.structured(OPTIONS["dataset"][name])
    for override in overrides:
        key, equals, _ = override.removeprefix("dataset.").partition("=")
        known = [field for field in field_names(OPTIONS["dataset"][name]) if field not in (*_SELECTION, "name")]
        if not equals or key not in known:
            hint = "is for the run to select" if key in _SELECTION else f"no such field; {name} has {', '.join(known)}"
            raise ConfigError(f"{override}: {hint}")
        try:
            node = OmegaConf.merge(node, OmegaConf.from_dotlist([override.removeprefix("dataset.")]))
        except (OmegaConfBaseException, yaml.YAMLError) as error:
            raise ConfigError(f"{override}: {first_line(error)}") from None
    config = OmegaConf.to_object(node)
    assert isinstance(config, DatasetConfig)
    return config


def prepare(
    config: DatasetConfig,
    output: Path,
    licence: str | None = None,
    accepted: bool = False,
    on_prompt: Callable[[int], None] = lambda _: None,
    on_load: Callable[[str], None] = lambda _: None,
) -> tuple[dict[str, Any], bool]:
    """Writes all prompts of a dataset into one parquet file, whole or not at all.

    Args:
        config: the dataset, with nothing selected from it.
        output: the file; one of other content is replaced.
        licence: for a dataset whose licence is not listed here.
        accepted: whether the user accepts the licence, if it must be accepted.
        on_prompt: called with the number of prompts written so far.
        on_load: called with the name of each source that is loaded, for a dataset made of others.

    Returns:
        The metadata, and whether the file changed.

    Raises:
        ConfigError: the licence is not accepted, a hub dataset has no pinned revision, or the file cannot be written.
        DatasetError: the source cannot be read, or holds what parquet cannot.
    """
    if config.name in TO_BE_ACCEPTED and not accepted:
        raise ConfigError(f"{config.name}: {LICENCES[config.name]}: read it; --accept-license says that you accept it")
    try:
        metadata, unused = _provenance(config, licence), Unused()
    except OSError as error:
        raise datasets.unreadable(config, error) from error
    if isinstance(config, SpeedBenchDataset):
        resolved, metadata["made_of"] = source.resolve(config, unused, on_load)
        prompts = datasets.checked(resolved, config, unused)
    else:
        prompts = datasets.read(config, unused)
    temporary = _claim(output)
    try:
        _write(temporary, prompts, metadata, unused, on_prompt)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        changed = not output.is_file() or _sha256(output) != _sha256(temporary)
        if changed:
            temporary.replace(output)
    finally:
        temporary.unlink(missing_ok=True)
    return metadata, changed


def _claim(output: Path) -> Path:
    """Returns a new file beside the output, which replaces it once it is whole.

    Raises:
        ConfigError: nothing can be written there.
    """
    if not output.name:
        raise ConfigError(f"--output={output}: names no file; give the path of the file to write")
    temporary = output.with_name(f".{output.name}.{secrets.token_hex(4)}.tmp")
    try:
        if output.is_dir():
            raise ConfigError(f"--output={output}: a folder; give the path of the file to write")
        output.parent.mkdir(parents=True, exist_ok=True)
        temporary.touch(exist_ok=False)
    except OSError as error:
        raise ConfigError(f"--output={output}: cannot be written: {error.strerror}") from None
    return temporary


def read_prepared(path: Path, unused: Unused) -> Iterator[tuple[int, Prompt]]:
    """Yields row numbers and prompts of a prepared file; at the end they are checked against the metadata.

    Raises:
        DatasetError: the file was not written by `prepare`, has another format, or was changed since.
    """
    metadata = read_metadata(path)
    unused.inherit(metadata.get("unused", {}))  # older files have none
    digest = PromptsDigest()
    for number, row in read_rows(path):
        try:
            prompt = Prompt(
                prompt_id=row["prompt_id"],
                category=row["category"],
                turns=tuple(row["turns"]),
                system=row["system"],
                max_new_tokens=row["max_new_tokens"],
                labels=json.loads(row["labels"]) if row["labels"] is not None else None,
            )
        except (KeyError, TypeError, ValueError):
            raise DatasetError(f"{path}:{number}: not a row that prepare writes; run prepare again") from None
        digest.add(prompt)
        yield number, prompt
    if digest.hexdigest() != metadata["sha256"]:
        raise DatasetError(f"{path}: its prompts are not those that it was prepared with; run prepare again")


def read_metadata(path: Path) -> dict[str, Any]:
    """Returns a prepared file's metadata.

    Raises:
        DatasetError: the file was not written by `prepare`, or has another format.
    """
    import pyarrow
    from pyarrow import parquet

    try:
        found = (parquet.read_metadata(path).metadata or {}).get(METADATA_KEY)
    except (pyarrow.ArrowException, OSError) as error:
        raise DatasetError(f"{path}: cannot be read as parquet: {first_line(error)}") from None
    if found is None:
        raise DatasetError(f"{path}: was not written by prepare; use the dataset's own option, or dataset=hf")
    metadata: dict[str, Any] = json.loads(found)
    if metadata.get("format") != FORMAT:
        raise DatasetError(
            f"{path}: format {metadata.get('format')}, and this release reads {FORMAT}; prepare it again"
        )
    return metadata


def _provenance(config: DatasetConfig, licence: str | None) -> dict[str, Any]:
    """Returns the metadata as far as it is known before the prompts are read."""
    if isinstance(config, HFDataset) and config.id is not None:
        if config.revision is None:
            raise ConfigError(f"dataset.id={config.id}: pass dataset.revision=COMMIT; what is prepared must be pinned")
        files, original = {}, Original(config.id, config.revision)
    else:
        files = {path.name: _sha256(path) for path in _source_files(config)}
        original = Original(", ".join(files), "")
        if isinstance(config, MTBenchDataset) and config.path is None:
            original = Original(f"{mt_bench.HUB_REPOSITORY}, {mt_bench.HUB_FILE}", mt_bench.HUB_REVISION)
        elif isinstance(config, SpeedBenchDataset) and config.path is None:
            hub_name = source.hub_name(config.split)
            original = Original(f"{source.HUB_REPOSITORY}, {hub_name}", source.HUB_REVISION)
        elif len(files) == 1:
            original = ORIGINALS.get(next(iter(files.values())), original)
    left_out = (*_SELECTION, "name", "path")
    options = {key: value for key, value in asdict(config).items() if key not in left_out and value is not None}
    return {
        "format": FORMAT,
        "dataset": config.name,
        "options": options,
        "source": original.source,
        "revision": original.revision or None,
        "licence": licence or LICENCES.get(config.name),
        "source_files": files,
    }


def _source_files(config: DatasetConfig) -> list[Path]:
    if isinstance(config, HFDataset):
        if config.path is None:
            raise DatasetError("dataset=hf: give one of dataset.id=OWNER/NAME and dataset.path=FILE_OR_FOLDER")
        return hf.local_files(config.path)
    if isinstance(config, SpeedBenchDataset):
        return [source.source_file(config)]
    if isinstance(config, MTBenchDataset) and config.path is None:
        return [mt_bench.hub_file()]
    if isinstance(config, DemoDataset):
        return [ASSETS / "demo.jsonl"]
    return [required_path(config)]


def _write(
    path: Path,
    prompts: Iterator[Prompt],
    metadata: dict[str, Any],
    unused: Unused,
    on_prompt: Callable[[int], None],
) -> None:
    """Writes the prompts, and at the end the metadata, completed by what is counted on the way."""
    import pyarrow
    from pyarrow import parquet

    text = pyarrow.string()
    schema = pyarrow.schema(
        [
            pyarrow.field("prompt_id", text, nullable=False),
            pyarrow.field("category", text, nullable=False),
            pyarrow.field("turns", pyarrow.list_(text), nullable=False),
            pyarrow.field("system", text),
            pyarrow.field("max_new_tokens", pyarrow.int64()),
            pyarrow.field("labels", text),
        ]
    )
    digest, categories, num_turns = PromptsDigest(), Counter[str](), 0
    with parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        rows: list[dict[str, Any]] = []

        def flush() -> None:
            if rows:
                writer.write_table(pyarrow.Table.from_pylist(rows, schema=schema))
                rows.clear()

        for number, prompt in enumerate(prompts, start=1):
            row = {name: getattr(prompt, name) for name in schema.names}
            row["turns"] = list(prompt.turns)
            if prompt.labels is not None:
                row["labels"] = json.dumps(prompt.labels, sort_keys=True, ensure_ascii=False)
            rows.append(row)
            digest.add(prompt)
            categories[prompt.category] += 1
            num_turns += len(prompt.turns)
            if len(rows) == _ROWS_AT_ONCE:
                flush()
            on_prompt(number)
        flush()
        metadata["sha256"] = digest.hexdigest()
        metadata["num_prompts"], metadata["num_turns"] = categories.total(), num_turns
        metadata["categories"] = dict(sorted(categories.items()))
        metadata["unused"] = unused.as_tree()
        writer.add_key_value_metadata({METADATA_KEY: json.dumps(metadata, sort_keys=True)})


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
