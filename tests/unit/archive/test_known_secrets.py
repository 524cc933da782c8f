"""A secret is known by its value, once it has been seen anywhere, and taken out in whatever form it comes again."""

import base64
import json
import logging
import pickle
from pathlib import Path
from urllib.parse import quote

import pytest
from omegaconf import OmegaConf

from specdec_bench.archive import redact
from specdec_bench.archive.hydra_files import learn_composed, redacted_yaml
from specdec_bench.archive.secrets import is_secret_key, is_secret_variable
from specdec_bench.errors import ConfigError

GONE = "[redacted]"


@pytest.fixture(autouse=True)
def variables(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is known but this environment's secret."""
    for name in ("MY_API_KEY", "HARMLESS", "SHORT_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MY_API_KEY", "variable+1/x")
    monkeypatch.setenv("HARMLESS", "harmless-value")
    monkeypatch.setenv("SHORT_TOKEN", "abc")
    redact.begin()
    yield
    monkeypatch.undo()
    redact.begin()


@pytest.mark.parametrize(
    "name",
    [
        "MY_API_KEY",
        "HF_TOKEN",
        "DB_PASSWORD",
        "CLIENT_SECRET",
        "AWS_ACCESS_KEY_ID",
        "TOKEN_2",
        "github_token",
        "A_APIKEY",
    ],
)
def test_variables_that_hold_secrets(name: str) -> None:
    assert is_secret_variable(name)


@pytest.mark.parametrize(
    "name",
    ["PATH", "HOME", "TOKENIZERS_PARALLELISM", "GPG_KEY", "KEYBOARD", "PWD", "MAX_TOKENS", "SECRETARY"],
)
def test_variables_that_hold_none(name: str) -> None:
    assert not is_secret_variable(name)


@pytest.mark.parametrize("key", ["my_api_key", "db-password", "service_secret", "accessToken", "x-auth-token"])
def test_keys_with_an_ending_that_nothing_else_has(key: str) -> None:
    assert is_secret_key(key)


@pytest.mark.parametrize(
    "key", ["pad_token", "eos_token", "image_token", "stop_token_ids", "num_speculative_tokens", "draft_token", "key"]
)
def test_keys_of_models_and_engines(key: str) -> None:
    assert not is_secret_key(key)


@pytest.mark.parametrize("secret", ["pa ss,w=rd'x", "ümläut{1}", "back\\slash", "plain-enough"])
def test_every_form_of_a_known_secret(secret: str) -> None:
    redact.learn({"password": secret})
    hydra = "".join(f"\\{c}" if c in "\\()[]{}:=, \t" else c for c in secret)
    for form in (secret, quote(secret, safe=""), json.dumps(secret)[1:-1], repr(secret)[1:-1], hydra):
        assert redact.redact_text(f"before {form} after") == f"before {GONE} after", form
    basic = base64.b64encode(secret.encode()).decode()
    assert redact.redact_text(f"<{basic}>") == f"<{GONE}>"


def test_the_parts_of_a_secret() -> None:
    redact.learn({"authorization": "Bearer abcdef123", "private_key": "---BEGIN---\nline-one\nline-two\n"})
    assert redact.redact_text("got abcdef123") == f"got {GONE}"
    assert redact.redact_text("line-two") == GONE
    basic = base64.b64encode(b"bob:hunter22").decode()
    redact.learn({"authorization": f"Basic {basic}"})
    assert redact.redact_text("password hunter22 refused") == f"password {GONE} refused"
    redact.learn("https://eve:p%40ssword@host/x")
    assert redact.redact_text("p@ssword") == GONE
    assert redact.redact_text(base64.b64encode(b"eve:p%40ssword").decode()) == GONE


def test_a_short_secret_goes_by_its_key_alone() -> None:
    redact.learn({"token": "abc"})
    assert redact.redact_text("abc") == "abc"
    assert redact.redact({"token": "abc", "x": "abc"}) == {"token": GONE, "x": "abc"}


@pytest.mark.parametrize(
    "text",
    [
        "Unexpected token: foo",
        "the password is wrong",
        "engine.api_key: must be a string",
        "num_speculative_tokens=3, eos_token=</s>, stop: ['token: x']",
        "secret sauce; credentials were refused",
        "tokens: 12, token ids: [1, 2]",
    ],
)
def test_running_text_stays(text: str) -> None:
    assert redact.redact_text(text) == text


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("Authorization: Bearer xyz", f"Authorization: Bearer {GONE}"),
        ('{"token": "xyz", "top_k": 1}', f'{{"token": "{GONE}", "top_k": 1}}'),
        ("{'hf_token': 'xyz'}", f"{{'hf_token': '{GONE}'}}"),
        ("serve --api-key xyz --port 1", f"serve --api-key {GONE} --port 1"),
        ("export HF_TOKEN=xyz; run", f"export HF_TOKEN={GONE}; run"),
        ("api_key=xyz&y=1", f"api_key={GONE}&y=1"),
        (f"api_key={GONE}: no such field", f"api_key={GONE}: no such field"),
        ("api_key=${oc.env:X}", "api_key=${oc.env:X}"),
    ],
)
def test_text_that_says_what_is_secret(text: str, redacted: str) -> None:
    assert redact.redact_text(text) == redacted


def test_the_environment_is_known_and_can_be_referred_to() -> None:
    assert redact.redact_text("refused variable+1/x") == f"refused {GONE}"
    assert redact.redact_text("harmless-value abc") == "harmless-value abc"
    tree = {"api_key": "variable+1/x", "foo": "Bearer variable+1/x", "token": "literal"}
    assert redact.redact(tree) == {"api_key": GONE, "foo": f"Bearer {GONE}", "token": GONE}
    assert redact.redact(tree, refers=True) == {
        "api_key": "${oc.env:MY_API_KEY}",
        "foo": "Bearer ${oc.env:MY_API_KEY}",
        "token": GONE,
    }


def test_what_interpolates_a_secret_variable_is_secret_under_any_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SETTINGS_TOKEN", "{inner: decoded-1, list: [decoded-2]}")
    tree = OmegaConf.create(
        {
            "foo": "${oc.env:MY_API_KEY}",
            "again": "${foo}",
            "other": "${oc.env:UNSET_PASSWORD,default-1}",
            "settings": "${oc.decode:${oc.env:SETTINGS_TOKEN}}",
            "password": "${oc.env:HARMLESS}",
            "missing": "???",
            "broken": "${nothing}",
        }
    )
    learn_composed(tree)
    for secret in ("default-1", "decoded-1", "decoded-2", "harmless-value"):
        assert redact.redact_text(secret) == GONE, secret
    assert redact.redact({"foo": "harmless-value"}, refers=True) == {"foo": "${oc.env:HARMLESS}"}
    written = redacted_yaml(tree).decode()
    assert "foo: ${oc.env:MY_API_KEY}" in written
    assert "password: ${oc.env:HARMLESS}" in written
    assert "default-1" not in written


def test_an_override_that_names_a_variable_is_kept() -> None:
    kept = [
        "+engine.extra_args.api_key=${oc.env:MY_API_KEY}",
        "+engine.extra_args.api_key='${oc.env:MY_API_KEY}'",
        "+engine.extra_args.api_key=$\\{oc.env\\:MY_API_KEY\\}",
        "+engine.extra_args.headers=['Authorization: Bearer ${oc.env:MY_API_KEY}']",
        "+engine.extra_args={api_key: '${oc.env:MY_API_KEY}', token: null}",
    ]
    redact.learn_arguments(kept)
    assert redact.redact_overrides(kept) == kept
    given = ["+engine.extra_args.api_key=${oc.env:MY_API_KEY,literal-1}"]
    redact.learn_arguments(given)
    assert redact.redact_overrides(given) == [f"+engine.extra_args.api_key={GONE}"]
    assert redact.redact_text("literal-1") == GONE


def test_all_choices_of_a_sweep_are_known() -> None:
    redact.learn_arguments(["+engine.extra_args.token=choice-1,'choice 2'", "+x={a: [{password: deep-one}]}"])
    assert redact.redact_text("choice-1|choice 2|deep-one") == "|".join([GONE] * 3)


def test_a_folder_may_not_be_named_after_a_secret(tmp_path: Path) -> None:
    overrides = ["spec=ngram", "+engine.extra_args.token=abc"]
    redact.learn({"password": "given-1"})
    for path in ("out/given-1", "out/engine.extra_args.token=abc", "out/variable+1/x", tmp_path / "given-1"):
        with pytest.raises(ConfigError, match=r"hydra\.run\.dir: would put a secret into the folder's name"):
            redact.refuse_secret_folder(Path(path), overrides, "hydra.run.dir")
    redact.refuse_secret_folder(tmp_path / "variable+1/x", overrides, "hydra.run.dir")  # may be so by chance
    redact.refuse_secret_folder(Path("outputs/spec=ngram"), overrides, "hydra.run.dir")


def test_another_process_knows_what_this_one_does() -> None:
    redact.learn({"password": "given-1"})
    sent = pickle.dumps(redact.known())
    redact.begin()
    assert redact.redact_text("given-1") == "given-1"
    redact.adopt(pickle.loads(sent))
    assert redact.redact_text("given-1") == GONE


def test_what_is_logged() -> None:
    redact.learn({"password": "given-1"})
    made = redact.redacted_record("x", logging.INFO, "x.py", 1, "%s of %d", ("given-1", 3), None)
    assert made.getMessage() == f"{GONE} of 3"
    wrong = redact.redacted_record("x", logging.INFO, "x.py", 1, "%d", ("not a number",), None)
    assert wrong.args == ("not a number",)  # logging itself says what is wrong with it
    failed = redact.redacted_record("x", logging.INFO, "x.py", 1, "failed", (), None)
    failed.exc_text = "ValueError: given-1"
    assert redact.RedactingFormatter("%(message)s").format(failed) == f"failed\nValueError: {GONE}"


def test_yaml_as_hydra_prints_it() -> None:
    text = (
        "== Config ==\na:\n  token: x y\n  eos_token: </s>\n  credentials:\n    user: bob\n  - deep\n  api_key: null\n"
        "  password: 'one\n\n    two'\n  hf_token: ${oc.env:X}\nb: 1\n"
    )
    assert redact.redact_yaml_text(text) == (
        f"== Config ==\na:\n  token: {GONE}\n  eos_token: </s>\n  credentials: {GONE}\n  api_key: null\n"
        f"  password: {GONE}\n  hf_token: ${{oc.env:X}}\nb: 1\n"
    )


def test_an_experiment_without_secrets_teaches_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MY_API_KEY")
    redact.begin()
    before = dict(redact.known().replacements)
    redact.learn_arguments(["-m", "spec=ngram", "spec.draft_length=1,3", "sampling.stop_token_ids=[1]", "seed=1"])
    assert redact.known().replacements == before
