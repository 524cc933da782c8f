from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from specdec_bench.archive.hydra_files import redact_yaml
from specdec_bench.archive.redact import redact, redact_overrides
from specdec_bench.archive.secrets import SECRET_KEYS
from specdec_bench.errors import ArchiveError

GONE = "[redacted]"

KEPT = {
    "num_speculative_tokens": 3,
    "max_new_tokens": 128,
    "min_new_tokens": 1,
    "stop_token_ids": [1, 2],
    "tokenizer": "owner/name",
    "tokenizer_mode": "auto",
    "num_output_tokens": 5,
    "eos_token_id": 2,
    "bos_token": "<s>",
    "token_ids": [1],
    "tokens": 4,
    "max_num_batched_tokens": 2048,
    "secretary": "x",
    "passwords_seen": 0,
    "key": "value",
    "keys": ["a"],
    "key_cache_dtype": "fp8",
    "authorization_url": "https://host/path",
}
"""Names that a match by substring destroys."""


def test_only_whole_keys_are_secret() -> None:
    assert redact(KEPT) == KEPT
    assert redact_overrides([f"+engine.extra_args.{key}={value}" for key, value in KEPT.items()]) == [
        f"+engine.extra_args.{key}={value}" for key, value in KEPT.items()
    ]
    assert redact_overrides([f"engine.extra_args={{{key}: 1}}" for key in KEPT]) == [
        f"engine.extra_args={{{key}: 1}}" for key in KEPT
    ]


@pytest.mark.parametrize("key", sorted(SECRET_KEYS))
def test_every_secret_key_in_every_form(key: str) -> None:
    for name in (key, key.upper(), key.title(), key.replace("_", "-")):
        assert redact({"a": [{name: "xyz", "b": 1}]}) == {"a": [{name: GONE, "b": 1}]}
        assert redact({f"engine.extra_args.{name}": "xyz"}) == {f"engine.extra_args.{name}": GONE}
        given = [
            f"engine.extra_args.{name}=xyz",
            f"++engine.extra_args.{name}='x=y z'",
            f"~engine.{name}=xyz",
            f"engine.{name}.inner=xyz",
            f"+engine.extra_args={{a: 1, {name}: xyz}}",
            f'engine.extra_args={{"{name}":"xyz"}}',
            f'engine.extra_args=\'{{\\"{name}\\": \\"xyz\\"}}\'',
            f"--{name}=xyz",
            f"--{name} xyz",
            f"--{name}",
            "xyz",
            "spec=ngram",
        ]
        redacted = redact_overrides(given)
        assert "xyz" not in str(redacted)
        assert "x=y" not in str(redacted)
        assert redacted[0] == f"engine.extra_args.{name}={GONE}"
        assert redacted[7:] == [f"--{name}={GONE}", f"--{name} {GONE}", f"--{name}", GONE, "spec=ngram"]


def test_what_lies_below_a_secret_key_goes_whole() -> None:
    assert redact({"credentials": {"user": "a", "list": [1]}, "token": [1], "password": 7}) == {
        "credentials": GONE,
        "token": GONE,
        "password": GONE,
    }


def test_what_cannot_be_a_secret_stays() -> None:
    harmless = {"token": None, "api_key": "", "use_auth_token": True, 5: "x", None: 1}
    assert redact(harmless) == harmless
    overrides = ["model.token=null", "model.token=", "~model.token", "model.use_auth_token=true", "--help", ""]
    assert redact_overrides(overrides) == overrides


def test_the_original_is_not_touched() -> None:
    original: dict[str, Any] = {"a": {"token": "xyz"}, "b": ("https://u:p@h", [1])}
    assert redact(original) == {"a": {"token": GONE}, "b": (f"https://{GONE}@h", [1])}
    assert original == {"a": {"token": "xyz"}, "b": ("https://u:p@h", [1])}
    once = redact(original)
    assert redact(once) == once


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://user:pass@host/path", f"https://{GONE}@host/path"),
        (
            "see postgresql+psycopg://u:p@db:5432/x, or ftp://h",
            f"see postgresql+psycopg://{GONE}@db:5432/x, or ftp://h",
        ),
        ("https://user:p@ss:w@host", f"https://{GONE}@host"),
        ("https://hf_abc@host/x", f"https://{GONE}@host/x"),
        ("https://host/a@b", "https://host/a@b"),
        ("https://host?a=b@c", "https://host?a=b@c"),
        ("mail user@host", "mail user@host"),
        ("https://host/x?a=1&api_key=xyz&b=2", f"https://host/x?a=1&api_key={GONE}&b=2"),
        ("https://host/x?num_tokens=3", "https://host/x?num_tokens=3"),
        ('{"a": "https://h", "b": "x@y"}', '{"a": "https://h", "b": "x@y"}'),
    ],
)
def test_urls(text: str, expected: str) -> None:
    assert redact({"base_url": [text]}) == {"base_url": [expected]}
    assert redact_overrides([f"engine.base_url={text}"])[0] in (
        f"engine.base_url={expected}",
        f"engine.base_url={GONE}",
    )


def test_a_command_line() -> None:
    command = ["run.py", "-m", "spec=none,ngram", "--header", "Authorization: Bearer xyz", "--api-key", "--verbose"]
    assert redact_overrides(command) == [
        "run.py",
        "-m",
        "spec=none,ngram",
        "--header",
        f"Authorization: {GONE}",
        "--api-key",
        "--verbose",
    ]


# ---------------------------------------------------------------- what Hydra saves


SECRET_OVERRIDE = "+engine.extra_args={token: xyz, x: 1}"


def hydra_folder(run: Path, overrides: list[str], config: dict[str, Any], separator: str = "=") -> Path:
    folder = run / ".hydra"
    folder.mkdir()
    dirname = ",".join(sorted(overrides)).replace("=", separator)
    hydra = {
        "hydra": {
            "run": {"dir": "outputs/${now:%Y-%m-%d}/${hydra.job.override_dirname}"},
            "sweeper": {"params": {"spec.draft_length": "1,3", "engine.extra_args.api_key": "xyz,abc"}},
            "overrides": {"hydra": ["hydra.mode=RUN"], "task": overrides},
            "job": {"override_dirname": dirname, "id": "???", "env_set": {"HF_TOKEN": "xyz"}, "num": 1e-05},
            "runtime": {"output_dir": f"/outputs/{dirname}/0"},
        }
    }
    OmegaConf.save(OmegaConf.create(hydra), folder / "hydra.yaml")
    OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")
    OmegaConf.save(OmegaConf.create(overrides), folder / "overrides.yaml")
    return folder


def test_hydras_files_hold_no_secret_and_all_else(tmp_path: Path) -> None:
    config = {"engine": {"extra_args": {"token": "xyz", "x": 1}}, "path": "${oc.env:HOME}/x", "missing": "???"}
    folder = hydra_folder(tmp_path, ["spec=ngram", SECRET_OVERRIDE, "model.api_key=xyz"], config)
    multirun = tmp_path / "multirun.yaml"
    multirun.write_bytes((folder / "hydra.yaml").read_bytes())
    for path in (*folder.iterdir(), multirun):
        redact_yaml(path)
    for path in (*folder.iterdir(), multirun):
        assert "xyz" not in path.read_text()
    kept = f"+engine.extra_args={GONE}"
    assert OmegaConf.load(folder / "overrides.yaml") == ["spec=ngram", kept, f"model.api_key={GONE}"]
    hydra = OmegaConf.to_container(OmegaConf.load(folder / "hydra.yaml"), resolve=False)
    dirname = f"{kept},model.api_key={GONE},spec=ngram"
    assert hydra == {
        "hydra": {
            "run": {"dir": "outputs/${now:%Y-%m-%d}/${hydra.job.override_dirname}"},
            "sweeper": {"params": {"spec.draft_length": "1,3", "engine.extra_args.api_key": GONE}},
            "overrides": {"hydra": ["hydra.mode=RUN"], "task": ["spec=ngram", kept, f"model.api_key={GONE}"]},
            "job": {"override_dirname": dirname, "id": "???", "env_set": {"HF_TOKEN": GONE}, "num": 1e-05},
            "runtime": {"output_dir": f"/outputs/{dirname}/0"},
        }
    }
    config["engine"] = {"extra_args": {"token": GONE, "x": 1}}
    assert OmegaConf.to_container(OmegaConf.load(folder / "config.yaml"), resolve=False) == config


def test_a_folder_name_of_other_separators_goes_whole(tmp_path: Path) -> None:
    folder = hydra_folder(tmp_path, ["model.api_key=xyz"], {}, separator="-")
    redact_yaml(folder / "hydra.yaml")
    assert OmegaConf.load(folder / "hydra.yaml").hydra.job.override_dirname == GONE


def test_files_without_a_secret_are_not_rewritten(tmp_path: Path) -> None:
    folder = hydra_folder(tmp_path, ["spec=ngram"], {"a": 1})
    (folder / "config.yaml").write_text("# by hand\nnum_speculative_tokens:   3\nstop: ['token: x']\n")
    before = {name: (folder / name).stat() for name in ("config.yaml", "overrides.yaml")}
    for path in folder.iterdir():
        redact_yaml(path)
    assert (folder / "config.yaml").read_text().startswith("# by hand")
    assert {name: (folder / name).stat().st_ino for name in before} == {
        name: stat.st_ino for name, stat in before.items()
    }


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    folder = hydra_folder(tmp_path, [], {})
    (folder / "config.yaml").write_text("a: [")
    with pytest.raises(ArchiveError, match=r"config\.yaml: cannot be redacted"):
        redact_yaml(folder / "config.yaml")
