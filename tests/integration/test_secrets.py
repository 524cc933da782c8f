"""A canary in every way in; every byte of what was written, every file name and every line printed is searched."""

import base64
import os
import re
import stat
import time
from collections.abc import Iterable
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml

from tests.helpers.command_line import CommandLine, Outcome, read_json

ENVIRONMENT = {
    "MY_API_KEY": "CANARY-variable",
    "SETTINGS_TOKEN": "{inner: CANARY-decoded, list: [CANARY-in-list]}",
    "SHELL_SECRET": "CANARY-expanded/+=",
    "FOLDER_PASSWORD": "CANARY-folder",
    "FAILING_PASSWORD": "fail_every",
    "HARMLESS": "kept-variable",
}
"""`fail_every` stands in what the synthetic engine says of a failure."""
OVERRIDES = [
    "+model.chat_template_kwargs.api_key=CANARY-key",
    "+model.chat_template_kwargs.service_password='CANARY=pass,word (x)'",
    "+model.chat_template_kwargs.headers=[Authorization: Bearer CANARY-header,'X-API-Key: CANARY-second']",
    "+model.chat_template_kwargs.nested={deep: [{client_secret: CANARY-nested}, {num_speculative_tokens: 3}]}",
    '+model.chat_template_kwargs.json=\'{"token": "CANARY-json", "stop_token_ids": [1]}\'',
    "+model.chat_template_kwargs.arguments='--port 8000 --api-key CANARY-option --token=CANARY-token'",
    "+model.chat_template_kwargs.endpoint='https://host.invalid/v1?x=1&api_key=CANARY-query'",
    "+model.chat_template_kwargs.foo=${oc.env:MY_API_KEY}",
    "+model.chat_template_kwargs.default='${oc.env:UNSET_TOKEN,CANARY-default}'",
    "+model.chat_template_kwargs.decoded='${oc.decode:${oc.env:SETTINGS_TOKEN}}'",
    f"+model.chat_template_kwargs.expanded='{ENVIRONMENT['SHELL_SECRET']}'",
    "+model.chat_template_kwargs.token=zq_9",
    "+model.chat_template_kwargs.harmless=${oc.env:HARMLESS}",
    "+model.chat_template_kwargs.access_token=CANARY-template",
    "model.path=https://bob:CANARY-url@host.invalid/x",
    "--config-dir=conf-CANARY-folder",
    "experiment=own",
]
OWN_YAML = """\
# @package _global_
model:
  chat_template_kwargs:
    secret: CANARY-yaml
    private_key: |
      -----BEGIN KEY-----
      CANARY-first-line
      CANARY-second-line
    copied: "${model.chat_template_kwargs.foo}"
"""
SECRETS = [
    re.escape(form).encode()
    for secret in ("CANARY", "zq_9")
    for form in (secret, quote(secret, safe=""), secret.encode("utf-16-le").decode("latin-1"))
]
SECRETS += [base64.b64encode(f"bob:{secret}".encode()) for secret in ("CANARY-url",)]
FOUND = re.compile(b"|".join(SECRETS))
"""CANARY-folder, the name of a folder that the test makes, is searched for as well."""


def prepare(command_line: CommandLine) -> None:
    folder = command_line.folder / "conf-CANARY-folder" / "experiment"
    folder.mkdir(parents=True)
    (folder / "own.yaml").write_text(OWN_YAML)


def leaks(folders: Iterable[Path], outcome: Outcome | None = None) -> list[str]:
    """Returns where a canary is found: in a file, in its name, or on the terminal."""
    found = []
    for path in (path for folder in folders for path in folder.rglob("*")):
        if FOUND.search(os.fsencode(path.name)):
            found.append(f"name of {path}")
        if path.is_file() and (match := FOUND.search(content := path.read_bytes())):
            found.append(f"{path}: {content[max(match.start() - 60, 0) : match.end() + 30]!r}")
    for text in (outcome.stdout, outcome.stderr) if outcome else ():
        found += [line for line in text.splitlines() if FOUND.search(line.encode())]
    return found


def ask(command_line: CommandLine, *arguments: str) -> Outcome:
    return command_line.measure(*OVERRIDES, "sampling.max_new_tokens=4", *arguments, **ENVIRONMENT)


def test_a_single_run(command_line: CommandLine) -> None:
    prepare(command_line)
    outcome = ask(command_line, "hydra.run.dir=run")
    assert outcome.status == 0, outcome.stderr
    run = command_line.folder / "run"
    assert leaks([run], outcome) == []
    # All else is there, and what stands for a secret says which variable has it.
    config = yaml.safe_load((run / "config.yaml").read_text())
    arguments = config["model"]["chat_template_kwargs"]
    assert arguments["api_key"] == arguments["token"] == arguments["secret"] == "[redacted]"
    assert arguments["headers"] == ["Authorization: Bearer [redacted]", "X-API-Key: [redacted]"]
    assert arguments["nested"] == {"deep": [{"client_secret": "[redacted]"}, {"num_speculative_tokens": 3}]}
    assert arguments["json"] == '{"token": "[redacted]", "stop_token_ids": [1]}'
    assert arguments["arguments"] == "--port 8000 --api-key [redacted] --token=[redacted]"
    assert arguments["endpoint"] == "https://host.invalid/v1?x=1&api_key=[redacted]"
    assert arguments["foo"] == "${oc.env:MY_API_KEY}"
    assert arguments["expanded"] == "${oc.env:SHELL_SECRET}"
    assert arguments["decoded"] == {"inner": "[redacted]", "list": ["[redacted]"]}
    assert arguments["harmless"] == "kept-variable"
    assert config["model"]["path"] == "https://[redacted]@host.invalid/x"
    assert arguments["copied"] == "${oc.env:MY_API_KEY}"
    hydra = yaml.safe_load((run / ".hydra" / "hydra.yaml").read_text())["hydra"]
    assert "+model.chat_template_kwargs.foo=${oc.env:MY_API_KEY}" in hydra["overrides"]["task"]


@pytest.mark.parametrize("launcher", ["basic", "joblib_workers", "local_jobs"])
def test_a_sweep(command_line: CommandLine, tmp_path: Path, launcher: str) -> None:
    """Of which every second cell fails, and says so with a secret in its message."""
    prepare(command_line)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    outcome = command_line.measure(
        *OVERRIDES,
        *("-m", "engine.fail_every=null,1", "baseline=auto", "sampling.max_new_tokens=4"),
        *("hydra.sweep.dir=sweep", f"hydra/launcher={launcher}"),
        **ENVIRONMENT,
        TMPDIR=str(temporary),
    )
    assert outcome.status == 1
    assert len(outcome.errors) == 2, outcome.stderr
    assert all("synthetic failure: engine.[redacted]=1" in error for error in outcome.errors)
    sweep = command_line.folder / "sweep"
    files = {path.name for path in sweep.rglob("*")}
    assert files >= {"sweep.csv", "sweep.parquet", "sweep.json", "comparison.json", "multirun.yaml", "hydra.yaml"}
    assert leaks([sweep, temporary], outcome) == []
    assert not list(sweep.rglob("*.pkl"))
    if launcher == "local_jobs":
        assert (sweep / ".submitit").is_dir()


def test_a_launcher_s_pickles_are_their_owner_s_alone_while_jobs_run(command_line: CommandLine) -> None:
    arguments = ["-m", "engine.step_time_ms=200", "hydra/launcher=local_jobs", "hydra.sweep.dir=sweep"]
    with command_line.started(*command_line.experiment, *arguments, "sampling.max_new_tokens=64") as running:
        folder = command_line.folder / "sweep" / ".submitit"
        deadline = time.monotonic() + 60
        while not list(folder.rglob("*_submitted.pkl")):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        running.interrupt()
        running.end()
    assert not list(folder.rglob("*.pkl"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["engine=transformers"], "model.path=https://[redacted]@host.invalid/x"),
        (["+engine.extra_args.api_key=CANARY-key"], "engine.extra_args.api_key: engine=synthetic has no arguments"),
        (["+hydra.job.env_set.WANDB_API_KEY=CANARY-env-set"], "hydra.job.env_set={'WANDB_API_KEY': '[redacted]'}"),
        (["--api-key", "CANARY-flag"], "--api-key [redacted]"),
        (["+model.chat_template_kwargs.password={CANARY-broken"], "+model.chat_template_kwargs.password=[redacted]"),
        (["+engine.nothing.token=CANARY-unknown"], "+engine.nothing={'token': '[redacted]'}"),
        (["spec.draft_length=${oc.env:MY_API_KEY}"], "spec.draft_length"),
        (["hydra.run.dir=out/${hydra.job.override_dirname}"], "hydra.run.dir: would put a secret into the folder"),
        (["hydra.run.dir=out/${oc.env:MY_API_KEY}"], "hydra.run.dir: would put a secret into the folder"),
        (["hydra.run.dir=out/CANARY-variable"], "hydra.run.dir: would put a secret into the folder"),
        (
            ["-m", "hydra.sweep.subdir='${hydra.job.override_dirname}'", "spec.draft_length=1,2"],
            "hydra.sweep.subdir: would put a secret into the folder",
        ),
    ],
)
def test_what_is_refused(command_line: CommandLine, arguments: list[str], words: str) -> None:
    prepare(command_line)
    outcome = ask(command_line, *arguments)
    assert outcome.status == 2, outcome.stderr
    assert words in outcome.error
    assert leaks([], outcome) == []
    assert [path.name for path in command_line.folder.iterdir()] == ["conf-CANARY-folder"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--cfg", "job"], "harmless: ${oc.env:HARMLESS}"),
        (["--cfg", "job", "--resolve"], "harmless: kept-variable"),
        (["--info", "config"], "harmless: ${oc.env:HARMLESS}"),
        (["-m", "--dry-run"], "1 to run"),
    ],
)
def test_what_is_only_shown(command_line: CommandLine, arguments: list[str], words: str) -> None:
    prepare(command_line)
    # Hydra's own flags want all overrides in one row.
    overrides = sorted([*command_line.experiment, *OVERRIDES], key=lambda argument: not argument.startswith("--"))
    overrides = [override for override in overrides if ".decoded=" not in override]  # --resolve fails at a dictionary
    outcome = command_line(*arguments, *overrides, **ENVIRONMENT)
    assert outcome.status == 0, outcome.stderr
    assert words in outcome.stdout
    assert leaks([], outcome) == []


def test_a_resume_asks_again_for_what_was_given_literally(command_line: CommandLine) -> None:
    sweep = ["-m", "spec.draft_length=1,2", "sampling.max_new_tokens=4", "hydra.sweep.dir=sweep"]
    secret = "+model.chat_template_kwargs.api_key=CANARY-key"
    assert command_line.measure(*sweep, secret).status == 0
    refused = command_line("resume=sweep")
    assert refused.status == 2
    assert "+model.chat_template_kwargs.api_key=[redacted]" in refused.error
    again = command_line.measure(*sweep[:3], secret, "resume=sweep")
    assert again.status == 0, again.stderr
    assert leaks([command_line.folder], again) == []


def test_a_secret_of_the_environment_is_there_for_resume_and_replay(command_line: CommandLine) -> None:
    variables = [
        "+model.chat_template_kwargs.api_key=${oc.env:MY_API_KEY}",
        "+model.chat_template_kwargs.foo=${oc.env:MY_API_KEY}",
        "+model.chat_template_kwargs.header='Authorization: Bearer ${oc.env:MY_API_KEY}'",
        "+model.chat_template_kwargs.password=${oc.env:HARMLESS}",
    ]
    sweep = ["-m", "spec.draft_length=1,2", "sampling.max_new_tokens=4", "hydra.sweep.dir=sweep"]
    assert command_line.measure(*sweep, *variables, **ENVIRONMENT).status == 0
    before = (command_line.folder / "sweep" / "1" / "manifest.json").read_bytes()
    changed = ENVIRONMENT | {"MY_API_KEY": "CANARY-rotated"}
    resumed = command_line("resume=sweep", **changed)
    assert resumed.status == 0, resumed.stderr
    assert (command_line.folder / "sweep" / "1" / "manifest.json").read_bytes() == before
    replayed = command_line("replay", "sweep/1", "--output", "replayed", **changed)
    assert replayed.status == 0, replayed.stderr
    assert leaks([command_line.folder], replayed) == []
    manifests = [read_json(command_line.folder / name / "manifest.json") for name in ("sweep/1", "replayed")]
    assert manifests[0]["cell_id"] == manifests[1]["cell_id"]
    assert manifests[0]["config"] == manifests[1]["config"]

    unset = command_line("replay", "sweep/1", "--output", "elsewhere")
    assert unset.status == 2
    assert "MY_API_KEY" in unset.error
