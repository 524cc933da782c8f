"""What each method and setting is called in vLLM."""

from typing import Any

import pytest

from specdec_bench.config.schema.engine import VLLMEngine
from specdec_bench.config.schema.experiment import ExperimentConfig
from specdec_bench.config.schema.model import DraftCheckpoint, ModelConfig
from specdec_bench.config.schema.spec import (
    CheckpointSpec,
    CustomClassSpec,
    DFlashSpec,
    DraftModelSpec,
    DSparkSpec,
    Eagle3Spec,
    EagleSpec,
    MedusaSpec,
    MTPSpec,
    NgramGPUSpec,
    NgramSpec,
    NoSpec,
    SpecConfig,
    SuffixSpec,
)
from specdec_bench.engines.vllm import arguments
from specdec_bench.errors import ConfigError, EngineUnavailableError
from tests.helpers import build

DRAFT = DraftCheckpoint(path="org/draft", revision="abc")


def experiment(spec: SpecConfig, **engine: Any) -> ExperimentConfig:
    return build.experiment(
        engine=VLLMEngine(**engine),
        model=ModelConfig(name="m", path="org/target", revision="def", dtype="bfloat16", max_seq_len=4096),
        spec=spec,
    )


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (NoSpec(), None),
        (
            NgramSpec(draft_length=4, ngram_min=2, ngram_max=5),
            {"method": "ngram", "num_speculative_tokens": 4, "prompt_lookup_min": 2, "prompt_lookup_max": 5},
        ),
        (
            SuffixSpec(draft_length=8, max_tree_depth=16, max_spec_factor=2.0, min_token_prob=0.2),
            {
                "method": "suffix",
                "num_speculative_tokens": 8,
                "suffix_decoding_max_tree_depth": 16,
                "suffix_decoding_max_spec_factor": 2.0,
                "suffix_decoding_min_token_prob": 0.2,
                "suffix_decoding_max_cached_requests": 0,
            },
        ),
        *(
            (
                kind(draft_length=2, draft=DRAFT),
                {"method": name, "num_speculative_tokens": 2, "model": "org/draft", "revision": "abc"},
            )
            for kind, name in (
                (DraftModelSpec, "draft_model"),
                (EagleSpec, "eagle"),
                (Eagle3Spec, "eagle3"),
                (MTPSpec, "mtp"),
                (MedusaSpec, "medusa"),
                (DFlashSpec, "dflash"),
                (DSparkSpec, "dspark"),
            )
        ),
        (
            NgramGPUSpec(draft_length=4, ngram_min=2, ngram_max=5),
            {"method": "ngram_gpu", "num_speculative_tokens": 4, "prompt_lookup_min": 2, "prompt_lookup_max": 5},
        ),
        (
            CustomClassSpec(draft_length=2, proposer="mine.Mine"),
            {"method": "custom_class", "num_speculative_tokens": 2, "model": "mine.Mine"},
        ),
        # The target's own layers.
        (MTPSpec(draft_length=1), {"method": "mtp", "num_speculative_tokens": 1}),
        (
            Eagle3Spec(draft_length=5, draft=DraftCheckpoint(path="org/draft"), parallel_drafting=True),
            {"method": "eagle3", "num_speculative_tokens": 5, "model": "org/draft", "parallel_drafting": True},
        ),
    ],
)
def test_methods(spec: SpecConfig, expected: dict[str, Any] | None) -> None:
    assert arguments.speculative_config(experiment(spec)) == expected


def test_a_bundled_draft_is_passed_as_its_folder() -> None:
    spec = CheckpointSpec(name="eagle3", draft=DraftCheckpoint(path="bundled:tiny/eagle3"))
    told = arguments.speculative_config(experiment(spec))
    assert told is not None
    assert told["model"].endswith("/assets/tiny/eagle3")
    assert not told["model"].startswith("bundled:")


def test_engine_arguments() -> None:
    config = experiment(NgramSpec(), tensor_parallel_size=2, max_num_seqs=64, enforce_eager=True)
    assert arguments.engine_arguments(config) == {
        "model": "org/target",
        "revision": "def",
        "dtype": "bfloat16",
        "max_model_len": 4096,
        "trust_remote_code": False,
        "tensor_parallel_size": 2,
        "pipeline_parallel_size": 1,
        "data_parallel_size": 1,
        "enable_expert_parallel": False,
        "max_num_seqs": 64,
        "enable_prefix_caching": False,
        "enforce_eager": True,
        "speculative_config": {
            "method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_min": 1, "prompt_lookup_max": 3
        },
        "skip_tokenizer_init": True,
        "disable_log_stats": False,
        "generation_config": "vllm",
        "per_request_spec_decode_metrics": "detailed",
    }  # fmt: skip


def test_plain_decoding_differs_from_a_method_in_nothing_but_the_method() -> None:
    """Else a baseline and its speculative run would not be comparable."""
    plain = arguments.engine_arguments(experiment(NoSpec(), max_num_seqs=64))
    drafted = arguments.engine_arguments(experiment(NgramSpec(), max_num_seqs=64))
    assert drafted.keys() - plain.keys() == {"speculative_config", "per_request_spec_decode_metrics"}
    assert plain.items() <= {name: value for name, value in drafted.items() if name in plain}.items()


def test_synthetic_acceptance() -> None:
    config = experiment(NgramSpec(draft_length=3), synthetic_acceptance_length=2.5)
    told = arguments.speculative_config(config)
    assert told is not None
    assert (told["rejection_sample_method"], told["synthetic_acceptance_length"]) == ("synthetic", 2.5)
    assert isinstance(config.engine, VLLMEngine)
    assert "synthetic_acceptance_length=2.5" in (arguments.synthetic_stamp(config.engine) or "")
    assert arguments.synthetic_stamp(VLLMEngine()) is None


@pytest.mark.parametrize(
    ("spec", "engine", "words"),
    [
        (NoSpec(), {"synthetic_acceptance_length": 2.0}, "spec drafts nothing"),
        (NgramSpec(draft_length=3), {"synthetic_acceptance_length": 4.5}, "at most spec.draft_length + 1 = 4"),
        (NgramSpec(draft_length=3), {"synthetic_acceptance_rates": [0.5, 0.4]}, "spec.draft_length=3"),
    ],
)
def test_synthetic_acceptance_that_cannot_be(spec: SpecConfig, engine: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words.replace("+", r"\+")):
        arguments.speculative_config(experiment(spec, **engine))


@pytest.mark.parametrize("rates", [[0.4, 0.5], [1.5], [-0.1]])
def test_rates_that_are_none(rates: list[float]) -> None:
    with pytest.raises(ConfigError, match="synthetic_acceptance_rates"):
        VLLMEngine(synthetic_acceptance_rates=rates)


@pytest.mark.parametrize(
    ("key", "words"),
    [
        ("max_model_len", "use model.max_seq_len"),
        ("speculative_config", "use spec"),
        ("generation_config", "needs it as 'vllm'"),
        ("swap_spcae", "did you mean swap_space"),
        ("zzz", "see vLLM's AsyncEngineArgs"),
    ],
)
def test_extra_arguments_are_refused_by_name(key: str, words: str) -> None:
    with pytest.raises(ConfigError, match=rf"engine\.extra_args\.{key}.*{words}"):
        arguments.EXTRA_ARGUMENTS.check({key: 1}, ["max_model_len", "swap_space", "generation_config"], "1.2.3")


def test_known_extra_arguments_are_passed() -> None:
    assert arguments.EXTRA_ARGUMENTS.check({"swap_space": 2}, ["swap_space"], "1.2.3") == {"swap_space": 2}


def test_an_older_release_loses_the_per_request_counts_and_nothing_else() -> None:
    wanted = arguments.engine_arguments(experiment(NgramSpec()))
    known = wanted.keys() - {"per_request_spec_decode_metrics"}
    assert arguments.keep_known(wanted, known, "0.26").keys() == known
    with pytest.raises(EngineUnavailableError, match="vLLM 0 has no generation_config"):
        arguments.keep_known(wanted, known - {"generation_config"}, "0")


def test_what_the_release_lacks_is_refused_with_those_that_have_it() -> None:
    with pytest.raises(EngineUnavailableError, match=r"spec=medusa: .*up to 0\.32"):
        arguments.check_method("medusa", ["ngram", "eagle"], ["method"], {"method": "medusa"})
    with pytest.raises(EngineUnavailableError, match="spec=eagle3: the installed vLLM has no parallel_drafting"):
        arguments.check_method("eagle3", ["eagle3"], ["method"], {"method": "eagle3", "parallel_drafting": True})
    arguments.check_method("eagle3", [], ["method"], {"method": "eagle3"})


def test_an_engine_that_runs_another_method_is_refused() -> None:
    with pytest.raises(ConfigError, match="spec=draft_model: vLLM takes this draft for a draft of its method dspark"):
        arguments.check_resolved_method("draft_model", "dspark")
    with pytest.raises(ConfigError, match="spec=none: vLLM drafts with this model, by its method eagle3"):
        arguments.check_resolved_method("none", "eagle3")
    with pytest.raises(ConfigError, match="spec=ngram: vLLM does not draft"):
        arguments.check_resolved_method("ngram", None)
    for method, resolved in (("none", None), ("draft_model", "draft_model"), ("mtp", "mtp"), ("mtp", "deepseek_mtp")):
        arguments.check_resolved_method(method, resolved)


NAMES_THAT_DECIDE = [
    ("yuhuili/EAGLE3-LLaMA3.3-Instruct-70B", "eagle3"),
    ("/data/eagle-trial/draft", "eagle"),
    ("/x/dflash_draft", "dflash"),
    ("deepseek-ai/DSpark_qwen3_8b", "dspark"),
    ("/x/eagle3x/draft", "eagle3"),
    ("/x/dflash/eagle-1", "eagle"),  # the first word of vLLM's list holds, wherever it stands
]


@pytest.mark.parametrize(("path", "other"), NAMES_THAT_DECIDE)
@pytest.mark.parametrize("kind", [DraftModelSpec, MedusaSpec, MTPSpec])
def test_a_draft_s_path_that_decides_its_method_is_refused_for_other_methods(
    path: str, other: str, kind: type[CheckpointSpec]
) -> None:
    spec = kind(draft=DraftCheckpoint(path=path))
    with pytest.raises(
        ConfigError, match=rf"spec\.draft\.path={path}: .* use its method {other} instead of spec={spec.name};"
    ):
        arguments.speculative_config(experiment(spec))


@pytest.mark.parametrize(("path", "other"), NAMES_THAT_DECIDE)
def test_a_target_that_drafts_by_itself_must_not_have_such_a_path(path: str, other: str) -> None:
    """Without a draft, vLLM takes the target's path for the draft's; with one, or with n-grams, it does not look."""
    model = ModelConfig(name="m", path=path)
    with pytest.raises(ConfigError, match=rf"model\.path={path}: .* use its method {other} instead of spec=mtp;"):
        arguments.speculative_config(build.experiment(engine=VLLMEngine(), model=model, spec=MTPSpec()))
    for spec in (MTPSpec(draft=DRAFT), DraftModelSpec(draft=DRAFT), NgramSpec(), SuffixSpec()):
        assert arguments.speculative_config(build.experiment(engine=VLLMEngine(), model=model, spec=spec)) is not None


@pytest.mark.parametrize(("path", "other"), NAMES_THAT_DECIDE)
def test_some_methods_keep_their_name_whatever_the_path(path: str, other: str) -> None:
    draft = DraftCheckpoint(path=path)
    for spec in (EagleSpec(draft=draft), Eagle3Spec(draft=draft), DFlashSpec(draft=draft), DSparkSpec(draft=draft)):
        found = arguments.speculative_config(experiment(spec))
        assert found is not None
        assert (found["method"], found["model"]) == (spec.name, path)


@pytest.mark.parametrize(
    ("spec", "remembers", "always"),
    [
        (Eagle3Spec(), False, True),
        (Eagle3Spec(draft_length=2, draft_length_by_batch_size=[[1, 4, 2], [5, 9, 0]]), False, False),
        (NgramSpec(), False, False),
        (NgramGPUSpec(), False, False),
        (SuffixSpec(), False, False),
        (SuffixSpec(max_cached_requests=1), True, False),
        (CustomClassSpec(proposer="mine.Mine"), True, False),
    ],
)
def test_which_methods_remember_replies_and_which_draft_at_every_step(
    spec: SpecConfig, remembers: bool, always: bool
) -> None:
    assert (arguments.remembers(spec), arguments.always_drafts(spec)) == (remembers, always)


@pytest.mark.parametrize("method", ["ngram_gpu", "dspark"])
def test_methods_of_accelerators_are_refused_by_a_build_for_cpus(method: str) -> None:
    arguments.check_device(method, is_cpu=False)
    with pytest.raises(ConfigError, match=rf"^spec={method}: vLLM has it on accelerators only"):
        arguments.check_device(method, is_cpu=True)
    arguments.check_device("ngram", is_cpu=True)


def test_synthetic_acceptance_is_refused_on_a_cpu() -> None:
    drafting = {"rejection_sample_method": "synthetic", "synthetic_acceptance_length": 2.0}
    arguments.check_acceptance_of_drafts(drafting, is_cpu=False, runner="V1")
    with pytest.raises(ConfigError, match=r"engine\.synthetic_acceptance_length.*on accelerators only"):
        arguments.check_acceptance_of_drafts(drafting, is_cpu=True, runner="V1")


def test_block_verification_is_refused_where_it_would_be_the_standard_one() -> None:
    drafting = {"rejection_sample_method": "block"}
    for runner in ("V2", None):
        arguments.check_acceptance_of_drafts(drafting, is_cpu=False, runner=runner)
    with pytest.raises(ConfigError, match="rejection_sample_method=block: vLLM uses its model runner V1"):
        arguments.check_acceptance_of_drafts(drafting, is_cpu=False, runner="V1")


@pytest.mark.parametrize("key", ["spec_method", "spec_model", "spec_tokens", "speculative_config"])
def test_drafting_is_not_set_past_the_method(key: str) -> None:
    """Else a run with spec=none could draft, or one of `block` verification go by the standard one's name."""
    with pytest.raises(ConfigError, match=rf"engine\.extra_args\.{key}: the project sets this itself; use spec"):
        arguments.EXTRA_ARGUMENTS.check({key: "ngram"}, [key], "0.32")
