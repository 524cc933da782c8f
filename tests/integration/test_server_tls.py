"""Servers behind TLS, and servers that send requests on: neither gets the key unless it is the one that was named."""

from pathlib import Path

import pytest

from specdec_bench.archive import RunDirectory
from tests.helpers.certificates import make_certificate
from tests.helpers.command_line import CommandLine, Outcome
from tests.helpers.mock_http import steps
from tests.helpers.mock_servers import assert_all_but_one_failed, assert_is_nowhere, assert_refused, serving

KEY = "server-key-5f1d9c"


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls") / "server.pem", "127.0.0.1")


def measure(command_line: CommandLine, url: str, *overrides: str, **environment: str) -> Outcome:
    sizes = ["dataset.num_prompts=4", "sampling.max_new_tokens=24", "load.concurrency=1", "load.num_warmup=1"]
    attached = ["engine=vllm_server", f"engine.url={url}", "engine.api_key_env=THE_KEY", "spec=draft_model"]
    return command_line(*attached, *sizes, "hydra.run.dir=run", *overrides, THE_KEY=KEY, **environment)


def test_a_server_whose_certificate_is_trusted_is_measured_exactly(
    command_line: CommandLine, certificate: Path
) -> None:
    with serving("mock_completions", MOCK_MODEL="target", MOCK_KEY=KEY, MOCK_CERTIFICATE=str(certificate)) as url:
        outcome = measure(command_line, url, SSL_CERT_FILE=str(certificate))
    assert outcome.status == 0, outcome.stderr
    run = RunDirectory.open(command_line.folder / "run")
    records = [record for record in run.requests() if record.phase == "measure"]
    assert len(records) >= 4
    for record in records:
        assert record.error is None
        assert record.output_token_ids == (7,) * 24
        assert [step.num_accepted for step in record.steps] == [0, *steps(24)]
    cross_check = run.summary().acceptance.cross_check
    assert cross_check is not None
    assert (cross_check.difference.verify_steps, cross_check.difference.accepted) == (0, 0)
    assert_is_nowhere(KEY, command_line.folder / "run")


def test_a_certificate_that_nobody_vouches_for_is_refused(
    command_line: CommandLine, certificate: Path, tmp_path: Path
) -> None:
    heads = tmp_path / "heads"
    with serving("mock_completions", MOCK_CERTIFICATE=str(certificate), MOCK_HEADS=str(heads)) as url:
        outcome = measure(command_line, url)
    words = f"engine.url={url}: its certificate is not valid: self-signed certificate; if it is the server's, name "
    assert_refused(outcome, command_line.folder / "run", words + "the file of its issuer's in SSL_CERT_FILE")
    assert not heads.exists()


def test_a_certificate_of_another_host_is_refused(command_line: CommandLine, tmp_path: Path) -> None:
    elsewhere, heads = (
        make_certificate(tmp_path / "elsewhere.pem", "elsewhere.example", "127.0.0.2"),
        tmp_path / "heads",
    )
    with serving("mock_completions", MOCK_CERTIFICATE=str(elsewhere), MOCK_HEADS=str(heads)) as url:
        outcome = measure(command_line, url, SSL_CERT_FILE=str(elsewhere))
    words = "IP address mismatch, certificate is not valid for '127.0.0.1'"
    assert_refused(outcome, command_line.folder / "run", words)
    assert not heads.exists()


@pytest.mark.parametrize(
    ("status", "from_tls", "to_tls"), [(301, False, False), (302, False, True), (307, True, False)]
)
def test_a_redirect_is_refused_and_its_target_gets_nothing(
    command_line: CommandLine, certificate: Path, tmp_path: Path, *, status: int, from_tls: bool, to_tls: bool
) -> None:
    tls = {"MOCK_CERTIFICATE": str(certificate)}
    first, second = tmp_path / "first", tmp_path / "second"
    with serving("mock_completions", MOCK_HEADS=str(second), **tls if to_tls else {}) as target:
        sent_on = {"MOCK_REDIRECT": f"{status} {target}", "MOCK_HEADS": str(first)}
        with serving("mock_completions", **sent_on, **tls if from_tls else {}) as url:
            outcome = measure(command_line, url, SSL_CERT_FILE=str(certificate))
    words = f"engine.url={url}: HTTP {status}: redirects are not followed, and this one leads to {target}/v1/models"
    assert_refused(outcome, command_line.folder / "run", words)
    assert KEY.encode() in first.read_bytes()
    assert not second.exists()


def test_a_redirect_in_mid_run_does_not_get_the_key(command_line: CommandLine, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    with serving("mock_completions", MOCK_HEADS=str(second)) as target:
        environment = {"MOCK_MODEL": "target", "MOCK_ELSEWHERE": target, "MOCK_HEADS": str(first)}
        with serving("mock_completions", "redirect", **environment) as url:
            outcome = measure(command_line, url)
    assert outcome.status == 0, outcome.stderr
    assert_all_but_one_failed(
        command_line.folder / "run", f"redirects are not followed, and this one leads to {target}"
    )
    assert KEY.encode() in first.read_bytes()
    assert not second.exists()
