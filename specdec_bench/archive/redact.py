"""Keeps secrets out of run directories, which are passed on.

A value is redacted because of its *exact* key, in any case and with `-` for `_`. Matching a substring such as
"token" would destroy `num_speculative_tokens`, and with it the evidence. In any string the credentials of a URL
go too, and the values of secret keys in its query.
"""

import re
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from specdec_bench.archive import files
from specdec_bench.archive.layout import HYDRA
from specdec_bench.errors import ArchiveError

REDACTED = "[redacted]"

SECRET_KEYS = frozenset(
    {
        "access_key",
        "access_key_id",
        "access_token",
        "account_key",
        "anthropic_api_key",
        "api_key",
        "api_token",
        "apikey",
        "auth_token",
        "authorization",
        "aws_access_key_id",
        "aws_secret_access_key",
        "aws_session_token",
        "bearer_token",
        "client_secret",
        "connection_string",
        "credential",
        "credentials",
        "github_token",
        "hf_hub_token",
        "hf_token",
        "hub_token",
        "hugging_face_hub_token",
        "huggingface_token",
        "huggingfacehub_api_token",
        "id_token",
        "ngc_api_key",
        "nvidia_api_key",
        "openai_api_key",
        "passphrase",
        "passwd",
        "password",
        "private_key",
        "proxy_authorization",
        "refresh_token",
        "sas_token",
        "secret",
        "secret_access_key",
        "secret_key",
        "session_token",
        "token",
        "use_auth_token",
        "vllm_api_key",
        "wandb_api_key",
        "x_api_key",
    }
)
"""Whole keys, lower case. `num_speculative_tokens`, `stop_token_ids` or `tokenizer` are none of them."""

MIN_SECRET_LENGTH = 6
"""A shorter one would be found in the middle of words; it is redacted by its key alone."""

_KEY = "|".join(sorted((key.replace("_", "[_-]") for key in SECRET_KEYS), key=len, reverse=True))
# The key as a whole word: neither inside a longer name nor before one. Quotes may stand between it and its sign.
_SECRET_INSIDE = re.compile(rf"(?<![\w-])(?:{_KEY})[\"'\\]*\s*[:=]", re.IGNORECASE)
_OPTION = re.compile(rf"--?(?P<key>{_KEY})(?:(?P<sign>[=\s]).*)?", re.IGNORECASE | re.DOTALL)
_PATH_SIGNS = re.compile(r"[.:/@\[\]]+")
_URL_CREDENTIALS = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/?#\"<>]+@", re.IGNORECASE)
_URL_QUERY = re.compile(rf"([?&](?:{_KEY})=)[^\s&#\"<>]+", re.IGNORECASE)


def redact(value: Any, secrets: Collection[str] = ()) -> Any:
    """Returns a copy of nested dicts, lists and tuples without secrets.

    Whatever lies under a secret key becomes "[redacted]", all of it. What cannot be a secret stays: None, a bool
    and an empty string. A dotted key (`engine.extra_args.api_key`) is secret if any of its parts is.

    Args:
        value: what is to be archived.
        secrets: known ones (see `secret_values`), taken out of every other string too.
    """
    if isinstance(value, dict):
        return {
            key: REDACTED if _is_secret(key) and not _is_harmless(item) else redact(item, secrets)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [redact(item, secrets) for item in value]
    if isinstance(value, tuple):
        return tuple(redact(item, secrets) for item in value)
    return redact_text(value, secrets) if isinstance(value, str) else value


def redact_text(text: str, secrets: Collection[str] = ()) -> str:
    """Returns free text, such as an engine's message, without known secrets and without URLs' credentials."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, REDACTED)
    return _redact_urls(text)


def secret_values(value: Any) -> frozenset[str]:
    """Returns the secrets of a configuration: what `redact` would take out, where it is long enough to look for."""
    if isinstance(value, dict):
        return frozenset().union(
            *(_leaves(item) if _is_secret(key) else secret_values(item) for key, item in value.items())
        )
    if isinstance(value, list | tuple):
        return frozenset().union(*map(secret_values, value))
    return frozenset()


def redact_overrides(arguments: Sequence[str]) -> list[str]:
    """Returns Hydra overrides or a whole command line without secrets.

    Understands `a.b.api_key=xyz` with Hydra's `+`, `++` and `~`, `--api-key=xyz`, and `--api-key xyz` in one
    argument or two. Where the value is a structure that mentions a secret key, all of it is redacted.
    """
    result: list[str] = []
    follows_option = False
    for argument in arguments:
        if follows_option and not argument.startswith("--"):
            result.append(REDACTED)
            follows_option = False
            continue
        option = _OPTION.fullmatch(argument)
        follows_option = option is not None and option["sign"] is None
        if option is not None and option["sign"] is not None:
            result.append(argument[: option.end("sign")] + REDACTED)
        else:
            result.append(_redact_override(argument))
    return result


def redacted_yaml(composed: DictConfig) -> bytes:
    """Returns Hydra's tree, interpolations as they are, as YAML that holds no secret."""
    tree = OmegaConf.to_container(composed, resolve=False)
    return OmegaConf.to_yaml(OmegaConf.create(_redact_hydra(tree))).encode()


def redact_hydra_folder(folder: str | Path, multirun: str | Path | None = None) -> None:
    """Redacts what Hydra saved about a run, in place, and leaves a file alone that holds no secret.

    Args:
        folder: the run directory or its `.hydra` folder; if there is none, nothing is done.
        multirun: the sweep's multirun.yaml, if there is one.

    Raises:
        ArchiveError: a file cannot be read or written; it may then still hold a secret.
    """
    hydra = Path(folder)
    hydra = hydra if hydra.name == HYDRA else hydra / HYDRA
    paths = sorted(hydra.glob("*.yaml"))
    if multirun is not None:
        paths.append(Path(multirun))
    for path in paths:
        try:
            # Interpolations and `???` stay as they are: this is what was asked for, not what came of it.
            before = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
            after = _redact_hydra(before)
            if after != before:
                files.write_atomically(path, [OmegaConf.to_yaml(OmegaConf.create(after)).encode()])
        # OmegaConf's and YAML's errors have no common base.
        except Exception as error:
            raise ArchiveError(f"{path}: cannot be redacted: {error}; delete it before passing the run on") from error


def _is_secret(key: object) -> bool:
    if not isinstance(key, str):
        return False
    parts = _PATH_SIGNS.split(key.lower().replace("-", "_"))
    return any(part.strip("\"' ") in SECRET_KEYS for part in parts)


def _leaves(value: Any) -> frozenset[str]:
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return frozenset().union(*map(_leaves, value))
    return frozenset() if isinstance(value, bool) or len(str(value)) < MIN_SECRET_LENGTH else frozenset({str(value)})


def _is_harmless(value: object) -> bool:
    return value is None or isinstance(value, bool) or value == ""


def _redact_urls(text: str) -> str:
    return _URL_QUERY.sub(rf"\g<1>{REDACTED}", _URL_CREDENTIALS.sub(rf"\g<1>{REDACTED}@", text))


def _redact_override(override: str) -> str:
    key, sign, value = override.partition("=")
    if sign and value.lower() not in ("", "null", "none", "true", "false"):
        if _is_secret(key.lstrip("+~-")) or _SECRET_INSIDE.search(value):
            return f"{key}={REDACTED}"
    elif not sign and _SECRET_INSIDE.match(override):
        # An HTTP header, "Authorization: Bearer xyz".
        return f"{override.partition(':')[0]}: {REDACTED}"
    return _redact_urls(override)


def _redact_hydra(document: Any) -> Any:
    """Returns a document of Hydra's redacted; an override occurs in it in lists, and again inside other strings."""
    replacements = {
        raw: redacted
        for overrides in _override_lists(document, is_overrides=isinstance(document, list))
        for raw, redacted in zip(overrides, redact_overrides(overrides), strict=True)
        if raw != redacted
    }
    return redact(_replace(document, replacements))


def _override_lists(value: Any, is_overrides: bool) -> Iterator[list[str]]:
    """Yields the lists below a key `overrides`; overrides.yaml is such a list itself."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _override_lists(item, is_overrides or key == "overrides")
    elif isinstance(value, list) and is_overrides:
        yield [item for item in value if isinstance(item, str)]


def _replace(value: Any, replacements: dict[str, str], key: object = None) -> Any:
    """Returns the value with each override replaced wherever it stands, as in folder names made of overrides."""
    if isinstance(value, dict):
        return {name: _replace(item, replacements, name) for name, item in value.items()}
    if isinstance(value, list):
        return [_replace(item, replacements) for item in value]
    if not isinstance(value, str):
        return value
    for raw, redacted in replacements.items():
        value = value.replace(raw, redacted)
    if key == "override_dirname" and replacements and REDACTED not in value:
        # Written with other separators than the overrides themselves; which part is the secret cannot be told.
        return REDACTED
    return value
