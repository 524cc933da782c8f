"""Every command in README and docs is run, or composed where it needs what is not here."""

import itertools
import json
import re
import shutil
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser

from specdec_bench.checkpoints import fetch
from specdec_bench.datasets.prepare import dataset_config
from tests.helpers.documents import COMMANDS, COMPOSED_ONLY, DOCS, ROOT, Command, name
from tests.helpers.in_process import run

QUESTIONS = [
    {"question_id": number, "category": category, "turns": ["Write a poem.", "Write it again in prose."]}
    for number, category in ((81, "writing"), (101, "reasoning"))
]
EXPERIMENTS = [command for command in COMMANDS if command.words[:2] == ("python", "run.py")]
PROJECT = [command for command in COMMANDS if command.words[0] == "specdec-bench"]
RUN = [command for command in COMMANDS if command in EXPERIMENTS + PROJECT and command.kind not in COMPOSED_ONLY]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Has the files that the pages name, and keeps what their commands write for those that follow."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "question.jsonl").write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    (folder / "mine.jsonl").write_text(json.dumps({"turns": ["Write a function that adds two numbers."]}) + "\n")
    trace = re.search(r"^```text\n(.*?)^```", (DOCS / "loads.md").read_text(), re.M | re.S)
    assert trace
    (folder / "arrivals.txt").write_text(trace[1])
    for artifacts in ("aiperf", "aiperf_plain"):
        shutil.copytree(ROOT / "tests" / "imports" / "aiperf", folder / artifacts)
    plain = folder / "aiperf_plain" / "profile_export.jsonl"
    lines = [json.loads(line) for line in plain.read_text().splitlines()]
    plain.write_text("".join(json.dumps(line | {"spec_decode_acceptance": None}) + "\n" for line in lines))
    shutil.copy(ROOT / "tests" / "imports" / "vllm_bench.json", folder)
    experiment = re.search(r"^```yaml\n(.*?)^```", (DOCS / "configuration.md").read_text(), re.M | re.S)
    assert experiment
    proposer = re.search(r"^```python\n(.*?)^```", (DOCS / "engines" / "vllm.md").read_text(), re.M | re.S)
    assert proposer
    (folder / "my_drafter.py").write_text(proposer[1])
    (folder / "mine" / "experiment").mkdir(parents=True)
    (folder / "mine" / "experiment" / "nightly.yaml").write_text(experiment[1])
    return folder


@pytest.mark.parametrize("command", RUN, ids=name)
def test_every_command_runs(command: Command, folder: Path) -> None:
    outcome = run(folder, *command.words[1 + (command.words[0] == "python") :])
    assert outcome.status == 0, outcome.stderr


@pytest.mark.parametrize("command", [command for command in EXPERIMENTS if command.kind in COMPOSED_ONLY], ids=name)
def test_what_cannot_run_here_composes(command: Command, folder: Path) -> None:
    if command.kind == "engine" and "-m" in command.words:  # bundled models: the sweep can be planned
        outcome = run(folder, *command.words[2:], "--dry-run")
        assert outcome.status == 0, outcome.stderr
        return
    overrides = [word for word in command.words[2:] if word != "-m"]
    parsed = OverridesParser.create().parse_overrides(overrides)
    values = [
        [f"{override.get_key_element()}={value}" for value in itertools.islice(override.sweep_string_iterator(), 2)]
        if override.is_sweep_override()
        else [override.input_line or ""]
        for override in parsed
    ]
    for cell in itertools.product(*values):
        outcome = run(folder, *cell, "--cfg", "job")
        assert outcome.status == 0, outcome.stderr


@pytest.mark.parametrize("command", [command for command in PROJECT if command.kind in COMPOSED_ONLY], ids=name)
def test_what_is_not_fetched_here_is_a_dataset_or_a_model(command: Command) -> None:
    if command.words[1:3] == ("fetch", "model"):  # tests/integration/test_fetch.py does
        assert command.words[3] in fetch.MODELS
        return
    if command.words[1] == "summarize":  # tests/integration/test_aa.py does
        assert command.words[3] == "--aa"
        return
    if command.words[1] == "upload":  # tests/integration/test_upload.py does
        assert command.words[3].startswith("s3://")
        return
    assert command.words[1] == "prepare"
    overrides = [word for word in command.words[3:] if not word.startswith("--")]
    assert dataset_config(command.words[2], overrides).name == command.words[2]


@pytest.mark.parametrize("command", [c for c in COMMANDS if c not in EXPERIMENTS and c not in PROJECT], ids=name)
def test_every_other_command_is_of_something_there(command: Command) -> None:
    """What `make`, `pip` and `pytest` would do takes minutes, and other tests and CI do it."""
    match command.words:
        case ("make", target):
            assert re.search(rf"^{target}:|^test soak:.*\b{target}\b", (ROOT / "Makefile").read_text(), re.M)
        case ("pip", "install", "-e", extra):
            assert f"\n{extra[2:-1]} = [" in (ROOT / "pyproject.toml").read_text()
        case ("pip", "install", "--no-deps", "--no-build-isolation", requirement):
            assert f"--no-deps --no-build-isolation {requirement}\n" in (ROOT / "Makefile").read_text()
        case ("python", "-m", "pytest", path) | ("pip", "install", "-r", path) | ("python", path, _):
            assert (ROOT / path).exists()
        case other:
            pytest.fail(f"no test knows how to try {other}")
