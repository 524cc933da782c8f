"""How llama.cpp's server is started."""

import os
from pathlib import Path
from typing import Any

import pytest

from specdec_bench.config.schema.engine import LlamaCppServerEngine
from specdec_bench.config.schema.model import DraftCheckpoint, ModelConfig
from specdec_bench.config.schema.spec import (
    DFlashSpec,
    DraftModelSpec,
    Eagle3Spec,
    MTPSpec,
    NgramSpec,
    NoSpec,
    SpecConfig,
)
from specdec_bench.engines.server.llama_cpp import LlamaCppServer
from specdec_bench.engines.server.llama_cpp_arguments import (
    Release,
    command_line,
    parse_flags,
    read_release,
    refuse_environment,
    server_arguments,
)
from specdec_bench.errors import ConfigError, EngineUnavailableError
from tests.helpers import build
from tests.helpers.recordings import FOLDER

HELP = FOLDER / "llama_cpp" / "help.txt"
TYPES = ("none", "draft-simple", "draft-eagle3", "draft-mtp", "draft-dflash", "ngram-simple")
RELEASE = Release(version="0.6.0", aliases=parse_flags(HELP.read_text()), types=TYPES, num_devices=0)


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """A folder `target` and a folder `draft`, each with one GGUF file."""
    for name in ("target", "draft"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.gguf").touch()
    return tmp_path


def arguments(folder: Path, spec: SpecConfig, release: Release = RELEASE, **options: Any) -> dict[str, Any]:
    model = {"dtype": options.pop("dtype", "auto"), "max_seq_len": options.pop("max_seq_len", 512)}
    engine = LlamaCppServerEngine(**{"max_num_seqs": 4, **options})
    target = ModelConfig(name="m", path=str(folder / "target"), **model)
    return server_arguments(build.experiment(engine=engine, model=target, spec=spec), release)


def at(folder: Path) -> DraftCheckpoint:
    return DraftCheckpoint(path=str(folder / "draft"))


def test_plain_decoding_and_drafts_differ_in_the_drafts_alone(folders: Path) -> None:
    plain = {
        "model": str(folders / "target" / "target.gguf"),
        "ctx_size": 2048,
        "parallel": 4,
        "spec_type": "none",
        "metrics": True,
        "context_shift": False,
        "cache_ram": 0,
    }
    assert arguments(folders, NoSpec()) == plain
    drafting = {"spec_draft_model": str(folders / "draft" / "draft.gguf"), "spec_draft_n_max": 3}
    fixed = {"spec_draft_n_min": 0, "spec_draft_p_min": 0}
    kinds = {"draft-simple": DraftModelSpec, "draft-eagle3": Eagle3Spec, "draft-dflash": DFlashSpec}
    for kind, spec in kinds.items():
        made = arguments(folders, spec(draft_length=3, draft=at(folders)))
        assert made == {**plain, "spec_type": kind, **drafting, **fixed}
    assert arguments(folders, MTPSpec(draft_length=2)) == {
        **plain,
        "spec_type": "draft-mtp",
        "spec_draft_n_max": 2,
        **fixed,
    }


def test_lookups(folders: Path) -> None:
    made = arguments(folders, NgramSpec(draft_length=5, ngram_min=3, ngram_max=3))
    names = ("spec_type", "spec_ngram_simple_size_n", "spec_ngram_simple_size_m", "spec_ngram_simple_min_hits")
    assert [made[name] for name in names] == ["ngram-simple", 3, 5, 1]
    assert not any(name.startswith("spec_draft") for name in made)


def test_settings_become_arguments(folders: Path) -> None:
    extra = {"flash_attn": "on", "slots": False}
    made = arguments(
        folders, NoSpec(), num_threads=3, gpu_layers=0, max_num_batched_tokens=64, max_num_seqs=1, extra_args=extra
    )
    assert command_line({name: made[name] for name in ("threads", "gpu_layers", "batch_size", "flash_attn")}) == [
        *("--threads", "3", "--gpu-layers", "0", "--batch-size", "64", "--flash-attn", "on")
    ]
    assert command_line({"metrics": True, "slots": False}) == ["--metrics", "--no-slots"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dtype": "bfloat16"}, "model.dtype=bfloat16: llama.cpp computes with the types of the GGUF file"),
        ({"max_seq_len": None}, "model.max_seq_len=null: .* pass model.max_seq_len=TOKENS"),
        ({"extra_args": {"n_gpu_layers": 3}}, "gpu_layers: the project sets this itself; use engine.gpu_layers"),
        ({"extra_args": {"model_draft": "x"}}, "use spec.draft.path"),
        ({"extra_args": {"port": 1}}, "use engine.url"),
        ({"extra_args": {"cache_ram": 8}}, "the project needs it as 0"),
        ({"extra_args": {"spec_synth_len": 2}}, "spec_synth_len: drafts would be accepted at random"),
        ({"extra_args": {"flash_atn": "on"}}, "did you mean flash_attn"),
        ({"gguf_file": "other.gguf"}, "engine.gguf_file=other.gguf: .* has no such file"),
    ],
)
def test_what_does_not_go_is_refused_by_name(folders: Path, options: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        arguments(folders, NoSpec(), **options)


def test_a_folder_with_no_gguf_file_or_several(folders: Path) -> None:
    (folders / "target" / "other.gguf").touch()
    with pytest.raises(ConfigError, match=r"engine.gguf_file=null: .* name one of other.gguf, target.gguf"):
        arguments(folders, NoSpec())
    assert arguments(folders, NoSpec(), gguf_file="other.gguf")["model"].endswith("other.gguf")
    (folders / "draft" / "draft.gguf").unlink()
    spec = DraftModelSpec(draft_length=3, draft=at(folders))
    with pytest.raises(ConfigError, match=r"spec.draft.path=.*: the folder has no GGUF file"):
        arguments(folders, spec, gguf_file="other.gguf")


def test_a_release_without_the_method(folders: Path) -> None:
    old = RELEASE._replace(types=())
    with pytest.raises(EngineUnavailableError, match=r"has no --spec-type ngram-simple; install a newer release"):
        arguments(folders, NgramSpec(draft_length=5, ngram_min=3, ngram_max=3), release=old)


@pytest.mark.parametrize(
    ("ngram_min", "draft_length", "words"),
    [(1, 3, "spec.ngram_min=1: .* set spec.ngram_min=3"), (3, 2, "spec.draft_length=2: .* no fewer tokens")],
)
def test_lookups_that_it_does_not_draft_by(ngram_min: int, draft_length: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        LlamaCppServerEngine().check_spec(NgramSpec(draft_length=draft_length, ngram_min=ngram_min, ngram_max=3))


def test_arguments_in_the_environment_are_refused() -> None:
    refuse_environment(["PATH", "LLAMA_API_KEY"])
    with pytest.raises(ConfigError, match=r"LLAMA_ARG_SPEC_SYNTH_LEN is set: .* pass engine.extra_args.spec_synth_len"):
        refuse_environment(["PATH", "LLAMA_ARG_SPEC_SYNTH_LEN"])


def program(folder: Path, script: str) -> str:
    path = folder / "llama-server"
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_a_program_is_asked_what_it_has(tmp_path: Path) -> None:
    script = f"""case $1 in
    --version) echo "version: 0.6.0-dev (build 0, commit unknown)" >&2;;
    --help) cat {HELP};;
    --list-devices) printf 'Available devices:\\n  CUDA0: NVIDIA H100\\n  CUDA1: NVIDIA H100\\n';;
    esac"""
    found = read_release(program(tmp_path, script))
    assert (found.version, found.num_devices) == ("0.6.0-dev (build 0, commit unknown)", 2)
    assert set(TYPES) <= set(found.types)
    assert (found.aliases["n_gpu_layers"], found.aliases["model_draft"]) == ("gpu_layers", "spec_draft_model")
    with pytest.raises(EngineUnavailableError, match=r"cannot be run .* install llama.cpp"):
        read_release(str(tmp_path / "nowhere"))
    with pytest.raises(EngineUnavailableError, match=r"ends with status 4; give llama.cpp's llama-server"):
        read_release(program(tmp_path, "exit 4"))


def test_the_key_is_in_the_environment_and_in_no_argument(folders: Path) -> None:
    engine = LlamaCppServerEngine(max_num_seqs=1, binary="/opt/llama-server")
    model = ModelConfig(name="m", path=str(folders / "target"), max_seq_len=64)
    config = build.experiment(engine=engine, model=model, spec=NoSpec())
    adapter = LlamaCppServer(config)
    adapter._arguments = server_arguments(config, RELEASE)
    launch = adapter._launch(8123, "the-key")
    assert launch.command[:6] == ["/opt/llama-server", "--host", "127.0.0.1", "--port", "8123", "--alias"]
    assert launch.environment == {"LLAMA_API_KEY": "the-key"}
    assert "the-key" not in " ".join(launch.command)
    assert "LLAMA_API_KEY" not in os.environ
