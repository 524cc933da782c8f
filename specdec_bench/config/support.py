"""What each engine can do, known without importing it: the table of methods, parameters, limits and capabilities.

Code outside an engine's own folder asks what the engine can do, never which engine it is. The table needs neither
Hydra nor OmegaConf, so archived runs can be read with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from specdec_bench.errors import ConfigError

if TYPE_CHECKING:
    from specdec_bench.config.schema.experiment import ExperimentConfig

ANY: tuple[Any, ...] = ()
"""In the table: the engine takes whatever value the schema allows."""


@dataclass(frozen=True, kw_only=True)
class EngineSupport:
    """What one engine can do, known without importing it."""

    adapter: str
    """The module that has `create(config)`."""
    methods: Mapping[str, Mapping[str, tuple[Any, ...]]]
    """Method -> parameter -> allowed values (ANY: all). A parameter that is not listed must be null or false."""
    package: str | None = None
    """The module that must be installed; the extra of the same name installs it, where a registry has it."""
    has_checkpoints: bool = True
    """It runs a model: a target and perhaps a draft, with a tokenizer. One that does not has `engine.vocab_size`, and
    gets each byte of a prompt as a token."""
    sizes_batch: bool = False
    """`engine.max_num_seqs` bounds its batch, and null takes what the load and the sweep need."""
    synthetic_changes_outputs: bool = True
    """If its metrics are stamped as synthetic, it accepts drafts against the target's choice. Its outputs cannot be
    compared with plain decoding's."""
    max_concurrency: int | None = None
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Why a limit is there, by parameter or `concurrency`."""
    sampling: Mapping[tuple[str, ...], str] = field(default_factory=dict)
    """Sampling settings that it does not support (together), and why."""
    greedy: Mapping[str, str] = field(default_factory=dict)
    """Methods that run at temperature 0 only, and why."""
    model_types: tuple[str, ...] | None = None
    """Where it lists the model types that it adds to transformers', as module:name; None: not known."""
    takes_clients: bool = False
    """It answers over HTTP, so that several processes can send it requests (`load.clients`). Its adapter is a
    `SharedEngine`."""
    shares_ngrams: bool = False
    """It keeps one table of n-grams for all requests, so that one request's text is proposed to another."""
    stops_drafting: bool = False
    """It continues without the draft once a request outgrows the draft's positions; other engines go wrong there."""
    takes_plain_heads: bool = True
    """It runs an EAGLE head whose `architectures` names a plain model (LlamaForCausalLM) as a head. An engine that does
    not is given the head under another name."""
    long_draft_variable: str | None = None
    """It gives the draft the target's context, whatever the requests need. If that exceeds the draft's positions, it
    starts only if this environment variable is set."""


_LLM_API_SAMPLING = {
    ("min_new_tokens",): "TensorRT-LLM holds back one end token only, and a model may have several",
    ("ignore_eos", "stop_token_ids"): "TensorRT-LLM ignores all stops or none",
}


ENGINES: dict[str, EngineSupport] = {
    "transformers": EngineSupport(
        adapter="specdec_bench.engines.transformers.adapter",
        package="transformers",
        model_types=(),
        methods={
            "none": {},
            "ngram": {"draft_length": ANY, "ngram_min": (1,), "ngram_max": ANY},
            "draft_model": {"draft_length": ANY, "draft": ANY},
        },
        max_concurrency=1,
        reasons={
            "concurrency": "assisted generation runs one request at a time",
            "ngram_min": "its prompt lookup falls back to single tokens",
        },
    ),
    "vllm": EngineSupport(
        adapter="specdec_bench.engines.vllm.adapter",
        package="vllm",
        sizes_batch=True,
        model_types=("vllm.transformers_utils.config:_CONFIG_REGISTRY",),
        stops_drafting=True,
        methods={
            "none": {},
            "ngram": {"draft_length": ANY, "draft_length_by_batch_size": ANY, "ngram_min": ANY, "ngram_max": ANY},
            "ngram_gpu": {"draft_length": ANY, "ngram_min": ANY, "ngram_max": ANY},
            "custom_class": {"draft_length": ANY, "proposer": ANY},
            "suffix": {
                "draft_length": ANY,
                "max_tree_depth": ANY,
                "max_spec_factor": ANY,
                "min_token_prob": ANY,
                "max_cached_requests": ANY,
            },
            **{
                method: {
                    "draft_length": ANY,
                    "draft_length_by_batch_size": ANY,
                    "draft": ANY,
                    **({"parallel_drafting": ANY} if method in ("draft_model", "eagle3") else {}),
                }
                for method in ("draft_model", "eagle", "eagle3", "mtp")
            },
            "medusa": {"draft_length": ANY, "draft": ANY},
            "dflash": {"draft_length": ANY, "draft": ANY},
            "dspark": {"draft_length": ANY, "draft": ANY},
        },
        reasons={"draft_length_by_batch_size": "its drafter of this method makes drafts of one length"},
    ),
    "sglang": EngineSupport(
        adapter="specdec_bench.engines.sglang.adapter",
        package="sglang",
        sizes_batch=True,
        model_types=("sglang.srt.utils.hf_transformers.common:_CONFIG_REGISTRY",),
        takes_plain_heads=False,
        shares_ngrams=True,
        long_draft_variable="SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN",
        methods={
            "none": {},
            "ngram": {"draft_length": ANY, "ngram_min": (1,), "ngram_max": ANY, "topk": ANY, "num_draft_tokens": ANY},
            **{
                method: {"draft_length": ANY, "draft": ANY, "topk": ANY, "num_draft_tokens": ANY}
                for method in ("draft_model", "eagle", "eagle3", "mtp")
            },
            "dflash": {"draft_length": ANY, "draft": ANY},
            "dspark": {"draft_length": ANY, "draft": ANY},
        },
        reasons={
            "ngram_min": "its trie matches single tokens too",
            "draft_length_by_batch_size": "its adaptive speculation follows the acceptance, rounds the batch up to the "
            "next CUDA graph, and does not tell how many drafts a step had",
        },
        sampling={
            ("min_new_tokens",): "SGLang holds it only where it has the tokenizer, and here it gets token ids alone",
            ("ignore_eos", "stop_token_ids"): "SGLang ignores all stops or none",
        },
    ),
    "tensorrt_llm": EngineSupport(
        adapter="specdec_bench.engines.tensorrt_llm.adapter",
        package="tensorrt_llm",
        sizes_batch=True,
        methods={
            "none": {},
            "ngram": {"draft_length": ANY, "ngram_min": (1,), "ngram_max": ANY},
            "draft_model": {"draft_length": ANY, "draft": ANY, "parallel_drafting": ANY},
            "eagle3": {"draft_length": ANY, "draft": ANY},
            "mtp": {"draft_length": ANY, "draft": ANY},
        },
        reasons={"ngram_min": "its lookup falls back to single tokens"},
        sampling=_LLM_API_SAMPLING,
        greedy=dict.fromkeys(
            ("draft_model", "eagle3", "mtp"),
            "drafter and target are one model there, which samples only with engine.allow_advanced_sampling=true",
        ),
    ),
    "auto_deploy": EngineSupport(
        adapter="specdec_bench.engines.tensorrt_llm.auto_deploy",
        package="tensorrt_llm",
        sizes_batch=True,
        methods={"none": {}, "draft_model": {"draft_length": ANY, "draft": ANY}},
        sampling=_LLM_API_SAMPLING,
    ),
    "llama_cpp_server": EngineSupport(
        adapter="specdec_bench.engines.server.llama_cpp",
        sizes_batch=True,
        takes_clients=True,
        methods={
            "none": {},
            "ngram": {"draft_length": ANY, "ngram_min": ANY, "ngram_max": ANY},
            "draft_model": {"draft_length": ANY, "draft": ANY},
            "eagle3": {"draft_length": ANY, "draft": ANY},
            "mtp": {"draft_length": ANY, "draft": ANY},
            "dflash": {"draft_length": ANY, "draft": ANY},
        },
        sampling={
            ("min_new_tokens",): "llama.cpp has no such setting",
            ("stop_token_ids",): "llama.cpp stops at the end tokens of the GGUF file alone",
        },
    ),
    "synthetic": EngineSupport(
        adapter="specdec_bench.engines.synthetic",
        has_checkpoints=False,
        synthetic_changes_outputs=False,
        methods={
            "none": {},
            "ngram": {"draft_length": ANY, "draft_length_by_batch_size": ANY, "ngram_min": ANY, "ngram_max": ANY},
            "draft_model": {"draft_length": ANY, "draft_length_by_batch_size": ANY, "draft": ANY},
        },
    ),
}

for _engine in ("vllm", "sglang", "tensorrt_llm"):  # a server does what the engine in it can do
    ENGINES[f"{_engine}_server"] = replace(
        ENGINES[_engine], adapter=f"specdec_bench.engines.server.{_engine}", takes_clients=True
    )


def archived_support(config: Mapping[str, Any]) -> EngineSupport:
    """Returns what an archived run's engine can do. For an unknown engine, returns what most can do.

    Args:
        config: the manifest's.
    """
    return ENGINES.get(config.get("engine", {}).get("name", ""), _UNKNOWN)


_UNKNOWN = EngineSupport(adapter="", methods={})


def check_support(config: "ExperimentConfig") -> None:
    """Refuses a cell that its engine cannot run, before anything loads.

    Raises:
        ConfigError: naming what that engine can do, and which engines have the method.
    """
    engine, spec, load = config.engine.name, config.spec, config.load
    support = ENGINES[engine]
    if not support.has_checkpoints and config.engine.extra_args:
        raise ConfigError(f"engine.extra_args.{next(iter(config.engine.extra_args))}: engine={engine} has no arguments")
    if spec.name not in support.methods:
        others = [name for name, other in ENGINES.items() if spec.name in other.methods]
        raise ConfigError(
            f"spec={spec.name}: engine={engine} has no such method; it has {', '.join(support.methods)}"
            + (f"; {spec.name} runs on engine={', '.join(others)}" if others else "")
        )
    if load.num_clients != 1 and not support.takes_clients:
        servers = ", ".join(name for name, other in ENGINES.items() if other.takes_clients)
        raise ConfigError(
            f"load.clients={load.clients}: engine={engine} runs in the process that measures, which alone can send it "
            f"requests; leave it at 1, or choose engine={servers}"
        )
    parameters = support.methods[spec.name]
    for key, value in vars(spec).items():
        if key == "name" or value is None or value is False:
            continue
        if key not in parameters:
            raise ConfigError(
                f"spec.{key}={value}: engine={engine} has no such parameter for {spec.name}; leave it null"
                + (f" ({support.reasons[key]})" if key in support.reasons else "")
            )
        allowed = parameters[key]
        if allowed and value not in allowed:
            choices = ", ".join(map(str, allowed))
            raise ConfigError(
                f"spec.{key}={value}: engine={engine} takes only {choices} for {spec.name}"
                + (f" ({support.reasons[key]})" if key in support.reasons else "")
            )
    for names, reason in support.sampling.items():
        values = {name: getattr(config.sampling, name) for name in names}
        if all(values.values()):
            given = ", ".join(f"sampling.{name}={value}" for name, value in values.items())
            raise ConfigError(f"{given}: engine={engine} cannot do that ({reason}); leave one at its default")
    temperature, samples = config.sampling.temperature, getattr(config.engine, "allow_advanced_sampling", False)
    if spec.name in support.greedy and temperature > 0 and not samples:
        raise ConfigError(
            f"sampling.temperature={temperature}: engine={engine} takes only 0 for spec={spec.name} "
            f"({support.greedy[spec.name]})"
        )
    most = support.max_concurrency
    reason = f" ({support.reasons['concurrency']})" if "concurrency" in support.reasons else ""
    if most is not None and load.max_in_flight is None:
        raise ConfigError(
            f"load={load.name}: engine={engine} takes at most {most} request at a time{reason}, and this load sends "
            "while others are in flight; choose load=closed"
        )
    if most is not None and load.max_in_flight is not None and load.max_in_flight > most:
        raise ConfigError(f"load.{load.AXIS}={load.label.value}: engine={engine} takes at most {most}{reason}")
