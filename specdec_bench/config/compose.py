"""Converts Hydra's composed tree, or an archived config.yaml, to the typed experiment."""

import functools
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

from hydra.core.config_store import ConfigNode, ConfigStore
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from specdec_bench.config import trace_file
from specdec_bench.config.checkpoints import draft_checkpoint
from specdec_bench.config.schema.cost import Cost
from specdec_bench.config.schema.experiment import (
    OPTIONS,
    OPTIONS_AROUND,
    Expected,
    ExperimentConfig,
    SweepConfig,
    draft_length,
    field_names,
)
from specdec_bench.config.schema.load import LoadConfig, TraceLoad
from specdec_bench.config.schema.model import DraftCheckpoint
from specdec_bench.config.schema.ranges import require
from specdec_bench.config.schema.slo import SLO, Capacity
from specdec_bench.config.schema.spec import CheckpointSpec
from specdec_bench.config.support import ENGINES
from specdec_bench.errors import ConfigError, first_line

PACKAGE = Path(__file__).resolve().parents[1]
CONF = PACKAGE / "conf" if (PACKAGE / "conf").is_dir() else PACKAGE.parent / "conf"
"""Inside an installed wheel, or beside the package in a checkout."""
CONFIG = "config"
"""The main file in conf/."""


class _Schema(ConfigNode):
    """An option's dataclass, which becomes a configuration when Hydra first asks for it.

    An experiment uses a few of them; converting all took a fifth of the time of a refusal.
    """

    _node: DictConfig | type

    def __init__(self, group: str, option: str, schema: type) -> None:
        super().__init__(f"{option}.yaml", schema, f"schema/{group}", package=None, provider=None)  # type: ignore[arg-type]

    @property
    def node(self) -> DictConfig:
        """The configuration."""
        if isinstance(self._node, type):
            configuration: DictConfig = OmegaConf.structured(self._node)
            self._node = configuration
        return self._node

    @node.setter
    def node(self, value: DictConfig | type) -> None:
        self._node = value


class _Shared(dict[str, Any]):
    """The registered configurations. Hydra copies those that it uses, and before that all of them, for each experiment.

    The copy of all took a tenth of the time of composing, and lost what `_Schema` had converted.
    """

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Shared":
        return self


@functools.cache
def register_schemas() -> None:
    """Registers every option's dataclass with Hydra. The files of conf/ refer to it as /schema/GROUP/OPTION."""
    store = ConfigStore.instance()
    store.repo = _Shared(store.repo)
    store.store(name="experiment_schema", node=SweepConfig)
    for group, options in (OPTIONS | OPTIONS_AROUND).items():
        for option, schema in options.items():
            store.repo.setdefault("schema", {}).setdefault(group, {})[f"{option}.yaml"] = _Schema(group, option, schema)


def experiment(composed: DictConfig, largest_concurrency: int = 1) -> ExperimentConfig:
    """Returns the typed experiment, with ranges checked and defaults that depend on other fields filled in.

    Args:
        composed: Hydra's tree.
        largest_concurrency: of the sweep that this cell belongs to; sizes an engine that all its cells share.

    Raises:
        ConfigError: a value is missing, of the wrong type or out of range.
    """
    try:
        config = OmegaConf.to_object(composed)
    except MissingMandatoryValue as error:
        raise ConfigError(f"{error.full_key}: has no value; pass {error.full_key}=VALUE") from None
    except OmegaConfBaseException as error:
        raise ConfigError(f"{error.full_key}: {first_line(error)}") from None
    assert isinstance(config, ExperimentConfig)
    _refuse_added_fields(config)
    _check_expected(config)
    cell = ExperimentConfig(**{field.name: getattr(config, field.name) for field in fields(ExperimentConfig)})
    return _complete(cell, largest_concurrency)


def _check_expected(config: ExperimentConfig) -> None:
    """Refuses values that were published for another method or K. A plain run is their baseline and passes.

    Raises:
        ConfigError: naming both.
    """
    expected, length = config.expected, draft_length(config.spec)
    rows, num_values = getattr(config.spec, "draft_length_by_batch_size", None), len(expected.acceptance_joint)
    lengths = (expected.acceptance_length_drafted, expected.output_tokens_per_verify_step)
    if rows is not None and (num_values or any(value is not None for value in lengths)):
        raise ConfigError(
            f"spec.draft_length_by_batch_size={rows}: the expected values are of one draft length; set "
            "expected.acceptance_joint=[] and each expected length to null to expect nothing"
        )
    methods = {method for engine in ENGINES.values() for method in engine.methods} - {"none"}
    if expected.spec not in (None, *methods):
        raise ConfigError(f"expected.spec={expected.spec}: no such method; choose one of {', '.join(sorted(methods))}")
    if length is not None and expected.spec not in (None, config.spec.name):
        raise ConfigError(
            f"spec={config.spec.name}: the values to expect are of expected.spec={expected.spec}; set "
            f"spec={expected.spec}, or to expect nothing set expected.spec, expected.draft_length and each expected "
            "length to null and expected.acceptance_joint=[]"
        )
    if length is not None and expected.draft_length not in (None, length):
        raise ConfigError(
            f"spec.draft_length={length}: the values to expect are of expected.draft_length={expected.draft_length}; "
            f"set spec.draft_length={expected.draft_length}, or to expect nothing set expected.draft_length and each "
            "expected length to null"
        )
    if length is not None and num_values not in (0, length):
        raise ConfigError(
            f"spec.draft_length={length}: expected.acceptance_joint has {num_values} values, one for each draft "
            f"position; set spec.draft_length={num_values}, or expected.acceptance_joint=[] and "
            "expected.acceptance_length_drafted=null to expect nothing"
        )


def _refuse_added_fields(config: Any, prefix: str = "") -> None:
    """Refuses a field that `+key=value` added to the schema's: nothing would ever read it.

    Raises:
        ConfigError: naming it and the known fields.
    """
    known = field_names(config)
    for name, value in vars(config).items():
        if name not in known:
            raise ConfigError(f"+{prefix}{name}={value}: no such field; there are {', '.join(known)}")
        for key, item in value.items() if isinstance(value, dict) else [(None, value)]:
            if is_dataclass(item):
                _refuse_added_fields(item, f"{prefix}{name}." if key is None else f"{prefix}{name}.{key}.")


def archived_experiment(tree: dict[str, Any]) -> ExperimentConfig:
    """Returns the experiment of an archived config.yaml.

    Raises:
        ConfigError: this release cannot read it.
    """
    try:
        nodes: dict[str, Any] = {
            "seed": tree["seed"],
            "replicate": tree.get("replicate", 0),
            "expected": tree.get("expected", {}),
            "slo": tree.get("slo", {}),
            "cost": tree.get("cost", {}),
        }
        for group, options in OPTIONS.items():
            content = tree[group]
            if not isinstance(content, dict):
                raise KeyError(group)
            if group == "load":  # older archives may lack the name: closed was the only load
                content = {"name": "closed", **content}
            # model and sampling have a single schema, whatever the option is called
            schema = next(iter(options.values())) if len(options) == 1 else options[content["name"]]
            # An option that this release lacks changed nothing where it was left off.
            content = {
                name: value
                for name, value in content.items()
                if name in field_names(schema) or not (value is None or value is False)
            }
            nodes[group] = OmegaConf.merge(OmegaConf.structured(schema), content)
        config = OmegaConf.to_object(OmegaConf.merge(OmegaConf.structured(ExperimentConfig), nodes))
    except KeyError as error:
        raise ConfigError(f"config.yaml: {error} is missing or unknown; was it written by this project?") from None
    except OmegaConfBaseException as error:
        raise ConfigError(f"config.yaml: {first_line(error)}") from None
    assert isinstance(config, ExperimentConfig)
    return config


def to_tree(config: ExperimentConfig) -> dict[str, Any]:
    """Returns the experiment as plain dictionaries, every field present."""
    return asdict(config)


def _complete(config: ExperimentConfig, largest_concurrency: int) -> ExperimentConfig:
    """Fills in values that the config leaves implicit (the draft, absolute folders), so that the archive names them."""
    support, engine = ENGINES[config.engine.name], config.engine
    if isinstance(config.spec, CheckpointSpec) and support.has_checkpoints:
        draft = draft_checkpoint(config)
        if draft is not None:
            config.spec.draft = DraftCheckpoint(
                path=_absolute(draft.path),
                revision=draft.revision,
                allow_vocabulary_differences=draft.allow_vocabulary_differences,
            )
    # A server that runs already has its own batch.
    if support.sizes_batch and not engine.is_attached and engine.max_num_seqs is None:  # type: ignore[attr-defined]
        if config.load.max_in_flight is None:
            raise ConfigError(
                f"engine.max_num_seqs=null: load={config.load.name} does not limit the requests in flight, "
                "so no batch size follows from it; pass engine.max_num_seqs=N or load.max_in_flight=N"
            )
        engine.max_num_seqs = max(config.load.max_in_flight, largest_concurrency)  # type: ignore[attr-defined]
    if isinstance(config.load, TraceLoad):
        config.load.arrivals = _arrivals(config.load)
    config.model.path = _absolute(config.model.path)
    if config.model.tokenizer is not None:
        config.model.tokenizer = _absolute(config.model.tokenizer)
    if config.model.chat_template is not None:
        config.model.chat_template = _template_text(config.model.chat_template)
    return config


def max_in_flight(composed: DictConfig) -> int:
    """Returns the most requests that a composed experiment has in flight; 1 if nothing bounds them.

    A load that is missing or out of bounds counts as 1 too: `experiment` refuses it.
    """
    try:
        load = OmegaConf.to_object(composed.load)
    except (ConfigError, OmegaConfBaseException):
        return 1
    assert isinstance(load, LoadConfig)
    return load.max_in_flight or 1


def limit_batch(config: ExperimentConfig, composed: DictConfig, num_prompts: int) -> None:
    """Caps the engine's batch at the number of conversations, if the load decides its size.

    A cell, its baseline and its sweep's other cells on the same dataset have as many, so their engines stay alike. A
    load that says itself how many conversations there are repeats the dataset, and sets no such cap.

    Args:
        config: of `experiment`; changed in place.
        composed: the tree that `config` was made from.
        num_prompts: of the dataset, without repeats.
    """
    if config.engine.is_attached:
        return
    if "max_num_seqs" in composed.engine and composed.engine.max_num_seqs is None and not config.load.decides_number:
        most = max(num_prompts * config.load.repeats, 1)
        config.engine.max_num_seqs = min(config.engine.max_num_seqs, most)  # type: ignore[attr-defined]


def _arrivals(load: TraceLoad) -> str:
    """Returns the trace's arrival times, so that the archive holds everything a replay needs.

    Raises:
        ConfigError: the file is no trace, or has fewer arrivals than asked for.
    """
    require(load.arrivals is None, "load.arrivals", load.arrivals, "is filled in from load.path; leave it null")
    arrivals = trace_file.read(load.path)
    num_arrivals, fix = len(arrivals.split()), "is more than the trace has arrivals"
    is_enough = load.num_conversations is None or load.num_conversations <= num_arrivals
    require(is_enough, "load.num_conversations", load.num_conversations, f"{fix}; ask for at most {num_arrivals:,}")
    return arrivals


def _template_text(path: str) -> str:
    """Returns the template file's text, so that the archive holds everything a replay needs.

    Raises:
        ConfigError: it cannot be read, or the archived YAML could not reproduce its text.
    """
    file = Path(path).expanduser()
    if file.exists() and not file.is_file():  # reading a pipe waits for ever
        raise ConfigError(f"model.chat_template={path}: is not a file; pass a file with a Jinja template")
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror
        raise ConfigError(f"model.chat_template={path}: {reason}; pass a file with a Jinja template") from None
    if "${" in text:
        raise ConfigError(f"model.chat_template={path}: holds ${{, which a configuration cannot; write it as $ and {{")
    return text


def _absolute(path: str) -> str:
    """Returns an existing folder's absolute path; a hub id or a bundled checkpoint stays as it is."""
    folder = Path(path).expanduser()
    return str(folder.resolve()) if folder.is_dir() else path


def groups() -> list[str]:
    """Returns the option groups of conf/, without Hydra's own."""
    return sorted(entry.name for entry in CONF.iterdir() if entry.is_dir() and entry.name != "hydra")


def known_fields(key: str) -> list[str] | None:
    """Returns the fields of a dotted key's group, over all its options; None if there is no such group."""
    group = key.split(".")[0]
    single: dict[str, type] = {"expected": Expected, "slo": SLO, "cost": Cost, "capacity": Capacity}
    schemas = {group: single[group]} if group in single else (OPTIONS | OPTIONS_AROUND).get(group)
    if schemas is None:
        return None
    return sorted({name for schema in schemas.values() for name in field_names(schema)} - {"name"})
