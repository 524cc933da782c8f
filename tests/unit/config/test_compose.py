"""conf/ and the schema fit each other; what is composed is typed, complete and checked."""

from pathlib import Path

import pytest
import yaml
from hydra import compose as hydra_compose
from hydra.core.config_store import ConfigStore
from hydra.errors import HydraException
from omegaconf import OmegaConf, open_dict

from specdec_bench.checkpoints.checks import check_checkpoints
from specdec_bench.cli.hydra_errors import explain
from specdec_bench.config import compose
from specdec_bench.config.compose import CONF
from specdec_bench.config.identity import cell_id, engine_key, request_seed
from specdec_bench.config.schema.dataset import RandomDataset
from specdec_bench.config.schema.engine import SyntheticEngine
from specdec_bench.config.schema.experiment import OPTIONS, OPTIONS_AROUND, Expected, ExperimentConfig
from specdec_bench.config.schema.load import ClosedLoad, PoissonLoad
from specdec_bench.config.schema.sampling import SamplingConfig
from specdec_bench.config.schema.spec import DraftModelSpec, Eagle3Spec, EagleSpec, NgramSpec
from specdec_bench.config.support import ENGINES, check_support
from specdec_bench.errors import ConfigError
from tests.helpers.composing import experiment

GROUPS = OPTIONS | OPTIONS_AROUND
YAML_OPTIONS = [(group, path.stem) for group in GROUPS for path in sorted((CONF / group).glob("*.yaml"))]


@pytest.mark.parametrize(("group", "option"), YAML_OPTIONS)
def test_every_yaml_composes(group: str, option: str, tmp_path: Path) -> None:
    path = ["model.path=org/name"] if (group, option) == ("model", "custom") else []
    if option in ("eagle", "medusa", "dflash", "dspark"):  # the tiny model has no such draft
        path = ["spec.draft.path=org/draft"]
    if option == "custom_class":
        path = ["spec.proposer=mine.Mine"]
    if option == "trace":
        (tmp_path / "trace.txt").write_text("0\n1.5\n", encoding="utf-8")
        path = [f"load.path={tmp_path / 'trace.txt'}"]
    config = experiment(f"{group}={option}", "spec=none" if group != "spec" else "seed=0", *path)
    assert isinstance(config, ExperimentConfig)


@pytest.mark.parametrize(("group", "option"), YAML_OPTIONS)
def test_a_yaml_states_only_what_differs_from_its_dataclass(group: str, option: str) -> None:
    content = yaml.safe_load((CONF / group / f"{option}.yaml").read_text(encoding="utf-8"))
    (schema, _) = content.pop("defaults")
    name = schema.removeprefix(f"/schema/{group}/").removesuffix("@_here_")
    default = OmegaConf.to_container(OmegaConf.structured(GROUPS[group][name]))
    assert isinstance(default, dict)
    assert [key for key, value in content.items() if default[key] == value] == []


HYDRA_OPTIONS = [
    (path.parent.name, path.stem)
    for kind in ("launcher", "sweeper")
    for path in sorted((CONF / "hydra" / kind).glob("*"))
]


@pytest.mark.parametrize(("kind", "option"), HYDRA_OPTIONS)
def test_every_launcher_and_sweeper_composes(kind: str, option: str) -> None:
    composed = hydra_compose("config", overrides=[f"hydra/{kind}={option}"], return_hydra_config=True)
    assert composed.hydra[kind]._target_.startswith("hydra_plugins.")
    text = (CONF / "hydra" / kind / f"{option}.yaml").read_text(encoding="utf-8")
    assert text.startswith("#")


@pytest.mark.parametrize(("kind", "option"), HYDRA_OPTIONS)
def test_a_missing_plugin_is_named_by_its_extra(monkeypatch: pytest.MonkeyPatch, kind: str, option: str) -> None:
    options = ConfigStore.instance().repo["hydra"][kind]
    (plugin,) = yaml.safe_load((CONF / "hydra" / kind / f"{option}.yaml").read_text())["defaults"]
    monkeypatch.delitem(options, f"{plugin}.yaml")
    extra = {"submitit_slurm": "slurm", "submitit_local": "slurm"}.get(plugin, plugin)
    for name in (option, plugin):
        with pytest.raises(HydraException) as refusal:
            hydra_compose("config", overrides=[f"hydra/{kind}={name}"], return_hydra_config=True)
        words = f"hydra/{kind}: its plugin is not installed; pip install 'specdec-bench[{extra}]'"
        assert explain(refusal.value) == words
    hydra_compose("config")  # which needs none of them


def test_what_becomes_of_one_experiment_is_in_no_other() -> None:
    """Files of conf/ and dataclasses are read once."""
    for _ in range(2):
        changed = hydra_compose("config", overrides=["engine=synthetic"])
        with open_dict(changed):
            changed.model.drafts.clear()  # of model/tiny.yaml
            changed.engine.acceptance_rates.append(0.5)  # of SyntheticEngine
    config = experiment("engine=synthetic")
    assert config.model.drafts["eagle"].path == "bundled:tiny/eagle"
    assert config.engine == SyntheticEngine()


@pytest.mark.parametrize(("group", "option"), YAML_OPTIONS)
def test_every_yaml_documents_itself(group: str, option: str) -> None:
    text = (CONF / group / f"{option}.yaml").read_text(encoding="utf-8")
    assert text.startswith("#"), f"conf/{group}/{option}.yaml starts without saying what it is"


def test_an_experiment_round_trips_through_its_yaml() -> None:
    config = experiment("spec=ngram", "spec.draft_length=5", "sampling.stop_token_ids=[1,2]", "load.concurrency=1")
    tree = yaml.safe_load(yaml.safe_dump(compose.to_tree(config)))
    assert compose.archived_experiment(tree) == config


def test_the_archive_names_the_draft_that_null_stands_for() -> None:
    config = experiment("spec=draft_model")
    assert isinstance(config.spec, DraftModelSpec)
    assert config.spec.draft.path == "bundled:tiny/draft"


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["spec.draft_length=0"], ["spec.draft_length=0", "at least 1"]),
        (["sampling.temperature=-1"], ["sampling.temperature=-1", "[0, 100]"]),
        (["sampling.temperature=nan"], ["sampling.temperature=nan"]),
        (["sampling.top_p=0"], ["sampling.top_p=0", "(0, 1]"]),
        (["sampling.min_new_tokens=200"], ["sampling.min_new_tokens=200", "max_new_tokens=128"]),
        (["load.concurrency=0"], ["load.concurrency=0"]),
        (["load.num_warmup=-1"], ["load.num_warmup=-1"]),
        (["dataset.num_prompts=0"], ["dataset.num_prompts=0"]),
        (["engine.stall_timeout_s=0"], ["engine.stall_timeout_s=0", "must lie in (0, 604,800]"]),
        (["engine=vllm", "engine.stall_timeout_s=inf"], ["engine.stall_timeout_s=inf", "null waits for ever"]),
        (["model.dtype=int4"], ["model.dtype=int4", "bfloat16"]),
        (["engine.device=tpu"], ["engine.device=tpu", "cuda"]),
        (["spec=ngram", "spec.ngram_min=4"], ["spec.ngram_max=3", "spec.ngram_min=4"]),
        (["engine=synthetic", "engine.acceptance_rates=[1.5]"], ["1.5", "[0, 1]"]),
        (["model=custom"], ["model.path", "no value"]),
        (["model=custom", "model.path=org/name"], ["spec=draft_model", "spec.draft.path"]),
    ],
)
def test_bad_values_are_refused_with_the_value_and_the_fix(overrides: list[str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as refusal:
        experiment(*overrides)
    message = str(refusal.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_an_engine_refuses_what_it_cannot_run_and_says_what_can() -> None:
    with pytest.raises(ConfigError, match=r"load\.concurrency=4: engine=transformers takes at most 1"):
        check_support(experiment("load.concurrency=4"))
    with pytest.raises(ConfigError, match=r"spec\.ngram_min=2: engine=transformers takes only 1"):
        check_support(experiment("spec=ngram", "spec.ngram_min=2"))
    check_support(experiment("engine=synthetic", "load.concurrency=4"))


def test_an_unknown_pair_names_the_engines_that_have_the_method(monkeypatch: pytest.MonkeyPatch) -> None:
    config = experiment("spec=ngram")
    config.spec.name = "eagle3"
    with pytest.raises(ConfigError, match="engine=transformers has no such method; it has none, ngram, draft_model"):
        check_support(config)


def test_every_engine_of_the_schema_is_in_the_table() -> None:
    assert set(ENGINES) == set(OPTIONS["engine"])
    for support in ENGINES.values():
        assert set(support.methods) <= set(OPTIONS["spec"])


def test_a_missing_folder_is_refused_before_anything_loads(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"model\.path=.*nowhere: no such folder"):
        check_checkpoints(experiment("model=custom", f"model.path={tmp_path}/nowhere", "spec=none"))
    with pytest.raises(ConfigError, match=r"holds no config\.json"):
        check_checkpoints(experiment("model=custom", f"model.path={tmp_path}", "spec=none"))


@pytest.mark.parametrize("difference", ["size", "tokens"])
def test_a_draft_of_another_vocabulary_is_refused(tmp_path: Path, difference: str) -> None:
    for name, size, last in (("target", 3, "c"), ("draft", 4 if difference == "size" else 3, "d")):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_text(f'{{"vocab_size": {size}}}')
        (folder / "tokenizer.json").write_text(f'{{"model": {{"vocab": {{"a": 0, "b": 1, "{last}": 2}}}}}}')
    config = experiment("model=custom", f"model.path={tmp_path}/target", f"spec.draft.path={tmp_path}/draft")
    with pytest.raises(ConfigError, match=r"spec\.draft\.path=.*vocabulary"):
        check_checkpoints(config)


def test_an_engine_is_shared_by_cells_that_differ_only_in_what_it_does_not_hold() -> None:
    def key(*overrides: str) -> str:
        return engine_key(experiment("engine=synthetic", *overrides))

    same = key()
    assert (
        same == key("load.concurrency=8") == key("sampling.temperature=1") == key("seed=5") == key("dataset=mt_bench")
    )
    assert (
        len({same, key("spec.draft_length=4"), key("spec=ngram"), key("model.dtype=float64"), key("engine.ttft_ms=1")})
        == 5
    )


def test_an_engine_is_shared_by_cells_that_differ_in_their_prompts() -> None:
    def key(*overrides: str) -> str:
        return engine_key(experiment("engine=synthetic", *overrides))

    assert key() == key("+model.chat_template_kwargs.enable_thinking=false") == key("model.template_date=2025-08-05")
    assert key() == key("model.reply_format=think", "model.prompt_format=completions") == key("dataset=random")


def test_a_template_file_s_text_is_archived_in_its_place(tmp_path: Path) -> None:
    file = tmp_path / "vicuna.jinja"
    file.write_text("{% for m in messages %}é{{ m['content'] }}\n{% endfor %}", encoding="utf-8")
    config = experiment(f"model.chat_template={file}")
    assert config.model.chat_template == file.read_text(encoding="utf-8")
    tree = yaml.safe_load(yaml.safe_dump(compose.to_tree(config), allow_unicode=True))
    assert compose.archived_experiment(tree) == config


def test_a_template_file_that_cannot_be_read_or_archived_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "t.jinja"
    with pytest.raises(ConfigError, match=r"model\.chat_template=.*t\.jinja: No such file.*; pass a file"):
        experiment(f"model.chat_template={file}")
    for content, words in (
        (b"\xff", "not UTF-8; pass a file"),
        (b"a${b}", r"holds \$\{, which a configuration cannot"),
    ):
        file.write_bytes(content)
        with pytest.raises(ConfigError, match=words):
            experiment(f"model.chat_template={file}")


def test_a_random_dataset_takes_the_experiments_seed() -> None:
    config = experiment("dataset=random", "seed=5")
    assert isinstance(config.dataset, RandomDataset)
    assert config.dataset.seed == 5
    assert compose.archived_experiment(yaml.safe_load(yaml.safe_dump(compose.to_tree(config)))) == config


def test_a_request_s_seed_depends_on_the_request_alone() -> None:
    seeds = {request_seed(s, p, t, r) for s in (0, 1) for p in ("a", "b") for t in (0, 1) for r in (0, 1)}
    assert len(seeds) == 16
    assert all(0 <= seed < 2**31 for seed in seeds)
    # Frozen: archived runs are replayed with it.
    assert request_seed(0, "a", 0, 0) == 2035183268


def test_defaults_are_those_of_the_dataclasses() -> None:
    config = experiment("engine=synthetic", "spec=ngram")
    assert config.engine == SyntheticEngine()
    assert config.spec == NgramSpec()
    assert config.load == ClosedLoad()
    assert config.sampling == SamplingConfig()


def test_a_load_that_bounds_nothing_sizes_no_engine() -> None:
    for engine in ("vllm", "sglang", "tensorrt_llm"):
        with pytest.raises(ConfigError) as refusal:
            experiment(f"engine={engine}", "spec=ngram", "load=poisson")
        assert str(refusal.value) == (
            "engine.max_num_seqs=null: load=poisson does not limit the requests in flight, so no batch size "
            "follows from it; pass engine.max_num_seqs=N or load.max_in_flight=N"
        )
    sized = experiment("engine=vllm", "spec=ngram", "load=poisson", "engine.max_num_seqs=64")
    assert sized.engine.max_num_seqs == 64  # type: ignore[attr-defined]
    limited = experiment("engine=vllm", "spec=ngram", "load=poisson", "load.max_in_flight=32")
    assert limited.engine.max_num_seqs == 32  # type: ignore[attr-defined]


def test_an_archive_whose_load_has_no_name_is_closed() -> None:
    tree = compose.to_tree(experiment("engine=synthetic", "load.concurrency=5"))
    del tree["load"]["name"]
    assert compose.archived_experiment(tree).load == ClosedLoad(concurrency=5)
    tree["load"] = compose.to_tree(experiment("engine=synthetic", "load=poisson", "load.rate=5"))["load"]
    assert compose.archived_experiment(tree).load == PoissonLoad(rate=5)


def test_an_archive_from_before_expected_values_is_read() -> None:
    tree = compose.to_tree(experiment("spec=ngram"))
    del tree["expected"], tree["dataset"]["num_turns"]
    assert compose.archived_experiment(tree).expected == Expected()


def test_published_values_of_another_method_or_draft_length_are_refused() -> None:
    joint = "expected.acceptance_joint=[0.7,0.5,0.3]"
    assert experiment(joint, "spec.draft_length=3").expected.acceptance_joint == [0.7, 0.5, 0.3]
    assert experiment(joint, "spec=none").expected.acceptance_joint == [0.7, 0.5, 0.3]  # the baseline of such a run
    words = r"spec\.draft_length=5: expected\.acceptance_joint has 3 values, .*; set spec\.draft_length=3, or expected"
    with pytest.raises(ConfigError, match=words):
        experiment(joint, "spec.draft_length=5")
    experiment("experiment=vllm_qwen3_8b", "spec.draft_length=5", "expected.acceptance_joint=[]")
    method = ("expected.acceptance_length_drafted=3", "expected.spec=eagle3")
    assert experiment(*method, "spec=none").expected.spec == "eagle3"
    with pytest.raises(ConfigError, match=r"spec=draft_model: the values to expect are of expected\.spec=eagle3; set"):
        experiment(*method, "spec=draft_model")
    with pytest.raises(
        ConfigError, match=r"expected\.spec=eagle4: no such method; choose one of custom_class, dflash, "
    ):
        experiment("expected.spec=eagle4", "spec=none")
    length = ("expected.acceptance_length_drafted=3", "expected.draft_length=15")
    assert experiment(*length, "spec=none").expected.draft_length == 15
    words = (
        r"spec\.draft_length=5: .* are of expected\.draft_length=15; set spec\.draft_length=15, or to expect nothing"
    )
    with pytest.raises(ConfigError, match=words):
        experiment(*length, "spec.draft_length=5")


def test_a_trace_is_part_of_the_experiment_whatever_its_file_is_called(tmp_path: Path) -> None:
    ids = []
    for name, content in (("a", "0\n1.5\n"), ("b", "# copied\n0\n1.50\n"), ("c", "0\n1.25\n")):
        (tmp_path / name).write_text(content, encoding="utf-8")
        config = experiment("engine=synthetic", "load=trace", f"load.path={tmp_path / name}")
        ids.append(cell_id(compose.to_tree(config), "p", {}))
    assert ids[0] == ids[1] != ids[2]
    with pytest.raises(ConfigError, match=r"load.num_conversations=3: .* ask for at most 2"):
        experiment("engine=synthetic", "load=trace", f"load.path={tmp_path / 'a'}", "load.num_conversations=3")
    with pytest.raises(ConfigError, match=r"load.arrivals=1: is filled in from load.path"):
        experiment("engine=synthetic", "load=trace", f"load.path={tmp_path / 'a'}", "load.arrivals='1'")


def test_options_that_are_left_null_change_no_id() -> None:
    """A cell of an earlier release, which did not have them, stays the same cell."""
    tree = compose.to_tree(experiment("engine=synthetic", "load=poisson"))
    earlier = tree | {"load": {name: value for name, value in tree["load"].items() if value is not None}}
    assert len(earlier["load"]) < len(tree["load"])
    assert cell_id(tree, "p", {}) == cell_id(earlier, "p", {})


def test_an_archive_s_option_that_is_gone_changes_nothing_if_it_was_left_off() -> None:
    """spec=eagle once had parallel_drafting, which no engine has for it."""
    config = experiment("engine=vllm", "spec=eagle")
    tree = compose.to_tree(config)
    assert isinstance(config.spec, EagleSpec)
    for off in (False, None):
        tree["spec"]["parallel_drafting"] = off
        assert compose.archived_experiment(tree) == config
    tree["spec"]["parallel_drafting"] = True
    with pytest.raises(ConfigError, match="parallel_drafting"):
        compose.archived_experiment(tree)


@pytest.mark.parametrize(
    ("method", "one_by_one", "parallel"), [("draft_model", "draft", "pard"), ("eagle3", "eagle3", "peagle")]
)
def test_parallel_drafting_takes_the_model_s_drafter_for_it(method: str, one_by_one: str, parallel: str) -> None:
    def path(*overrides: str) -> str | None:
        spec = experiment("engine=vllm", f"spec={method}", *overrides).spec
        assert isinstance(spec, DraftModelSpec | Eagle3Spec)
        return spec.draft.path

    assert path() == f"bundled:tiny/{one_by_one}"
    assert path("spec.parallel_drafting=true") == f"bundled:tiny/{parallel}"
    assert path("spec.parallel_drafting=true", "spec.draft.path=org/other") == "org/other"
