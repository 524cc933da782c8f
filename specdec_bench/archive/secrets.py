"""Recognizes secrets by the name of their key or environment variable, or by their place in a text.

A key is secret by its *whole* name, in any case and with `-` for `_`, or by an ending that only secrets have
(`my_api_key`). A substring such as "token" would also match `num_speculative_tokens` or `eos_token`, and redacting
those would destroy evidence. Environment variables are named more freely, so `MY_TOKEN` is a secret.
"""

import base64
import contextlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from urllib.parse import quote, quote_plus, unquote

REDACTED = "[redacted]"

SECRET_KEYS = frozenset(
    """
    access_key access_key_id access_token account_key api_key api_token apikey auth_token authorization
    aws_access_key_id bearer_token client_secret connection_string cookie credential credentials github_token
    hf_hub_token hf_token hub_token hugging_face_hub_token huggingface_token huggingfacehub_api_token id_token
    passphrase passwd password private_key proxy_authorization refresh_token sas_token secret secret_access_key
    secret_key session_token set_cookie token use_auth_token
    """.split()  # noqa: SIM905 (forty lines otherwise)
)
"""Whole keys, lower case. `num_speculative_tokens`, `stop_token_ids` or `tokenizer` are not among them."""

_ENDINGS = """
    access_key access_token api_key api_token apikey auth_token bearer_token client_secret passphrase passwd password
    private_key refresh_token secret secret_access_key secret_key session_token subscription_key
    """.split()  # noqa: SIM905
_AMBIGUOUS = frozenset(("token", "secret", "credential", "credentials", "id_token"))
"""These are ordinary words in running text."""
_SCHEMES = ("bearer", "basic", "token", "digest", "negotiate", "apikey")

MIN_SECRET_LENGTH = 6
"""A shorter secret would match inside words, so it is redacted only by its key."""


def _alternatives(names: Iterable[str]) -> str:
    return "|".join(sorted((name.replace("_", "[_-]?") for name in names), key=len, reverse=True))


_VARIABLE = (
    r"(?:[A-Z0-9_]*_)?(?:TOKEN|SECRET|PASSWORD|PASSWD|PASSPHRASE|CREDENTIALS?|AUTHORIZATION|COOKIE|API_?KEY|"
    r"(?:ACCESS|SECRET|PRIVATE|AUTH|ACCOUNT|ENCRYPTION|SIGNING|SUBSCRIPTION)_KEY(?:_ID)?|CONNECTION_STRING)(?:_?\d+)?"
)
_ENDING = rf"[\w-]*[_-](?:{_alternatives(_ENDINGS)})"
NAME = rf"(?:(?i:{_alternatives(SECRET_KEYS)}|{_ENDING})|{_VARIABLE})"
"""Pattern of the name of a secret key or variable."""
_PLAIN_NAME = rf"(?:(?i:{_alternatives(SECRET_KEYS - _AMBIGUOUS)}|{_ENDING})|{_VARIABLE})"

_IS_KEY, _IS_VARIABLE = re.compile(NAME), re.compile(_VARIABLE)
_PATH_SIGNS = re.compile(r"[.:/@\[\]]+")
_MENTION = rf"(?<![\w-]){NAME}[\"'\\]*\s*[:=]"
"""The key as a whole word: neither inside a longer name nor before one. Quotes may stand between it and its sign."""
_CREDENTIALS = re.compile(r"(\b[a-z][a-z0-9+.-]*\\?:\\?/\\?/)([^\s/?#\"<>]+)@", re.IGNORECASE)
_HINT = re.compile("token|secret|key|passw|passphrase|credential|authorization|cookie|connection|@", re.IGNORECASE)
_SCHEME = rf"(?:(?i:{'|'.join(_SCHEMES)})\s+)?"
_VALUE = r"(\[redacted\]|\$\\?\{[^{}]*(?:\{[^{}]*\}[^{}]*)*\}|[^\s\"',;&}\])]+)"
_ENVIRONMENT = re.compile(r"\$\{\s*oc\.env\s*:\s*([\w]+)\s*(?:,([^{}]*))?\}")
_NO_VALUES = ("", "null", "none", "true", "false", REDACTED)
_REFERENCE = re.compile(r"[\"'\\]*(?:\w+ )?\$\{(?:oc\.env:\s*\w+|oc\.decode:\s*\$\{oc\.env:\s*\w+\}|[\w.]+)\}[\"'\\]*")


# Compiled when first needed: that takes longer than all else a refusal does with secrets, and few texts hint at one.
@cache
def _assignments() -> tuple[re.Pattern[str], ...]:
    patterns = (
        rf"([?&]{NAME}\\?=)",
        rf"((?<![\w-]){_PLAIN_NAME}[\"'\\]*\s*=\s*[\"'\\]*{_SCHEME})",
        rf"((?<![\w./-]){_PLAIN_NAME}\s*\\?:\s*{_SCHEME})",  # a header, not a path or an override
        rf"((?<=[\"']){NAME}\\?[\"']\s*[:=]\s*[\"'\\]*{_SCHEME})",  # JSON
        rf"((?<![\w-])--{NAME}[ =][\"']?)",
    )
    return tuple(re.compile(pattern + _VALUE) for pattern in patterns)


def may_hold_secret(text: str) -> bool:
    """Whether a text holds a hint of a secret; most do not, and need no further look."""
    return _HINT.search(text) is not None


def is_secret_key(key: object) -> bool:
    """Whether everything under this key is secret. A dotted key is secret if any of its parts is."""
    if not isinstance(key, str):
        return False
    if not may_hold_secret(key):
        return False
    return any(_IS_KEY.fullmatch(part.strip("\"' +~")) is not None for part in _PATH_SIGNS.split(key))


def is_secret_variable(name: str) -> bool:
    """Whether an environment variable of this name holds a secret."""
    return is_secret_key(name) or _IS_VARIABLE.fullmatch(name.upper()) is not None


def is_harmless(value: object) -> bool:
    """Whether a value under a secret key reveals nothing: it is empty, or it names the secret without containing it."""
    if isinstance(value, str):
        unescaped = value.replace("\\", "")
        return unescaped.lower() in _NO_VALUES or _REFERENCE.fullmatch(unescaped) is not None
    return value is None or isinstance(value, bool)


def redact_patterns(text: str) -> str:
    """Returns the text without recognizable secrets: URLs' credentials, values of secret keys."""
    if not may_hold_secret(text):  # most lines that an engine prints
        return text
    text = _CREDENTIALS.sub(rf"\g<1>{REDACTED}@", text)
    for pattern in _assignments():
        text = pattern.sub(lambda match: match[0] if is_harmless(match[2]) else match[1] + REDACTED, text)
    return text


def find(value: object) -> Iterator[str]:
    """Yields the secrets in nested data: the values under secret keys, and secrets inside its strings."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from leaves(item) if is_secret_key(key) else find(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from find(item)
    elif isinstance(value, str) and may_hold_secret(value):
        for match in _CREDENTIALS.finditer(value):
            user, _, password = match[2].partition(":")
            yield from (match[2], password or user)
        for pattern in _assignments():
            yield from (match[2] for match in pattern.finditer(value) if not is_harmless(match[2]))


def leaves(value: object) -> Iterator[str]:
    """Yields all texts and numbers in nested data."""
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from leaves(item)
    elif not is_harmless(value):
        yield str(value)


def mentions_key(text: str, *, at_start: bool = False) -> bool:
    """Whether a text contains, or begins with, a secret key and the sign that gives it a value."""
    return may_hold_secret(text) and re.search((r"\A" if at_start else "") + _MENTION, text) is not None


def yaml_line(line: str) -> tuple[str, str] | None:
    """Returns the key and the value of a YAML line that gives a secret key its value; None for any other."""
    if not may_hold_secret(line):
        return None
    match = re.match(rf"(\s*(?:- )*[\"']?{NAME}[\"']?:)(\s.*)", line, re.DOTALL)
    return (match[1], match[2]) if match else None


def find_mentioned(text: str) -> Iterator[str]:
    """Yields what follows each secret key in an override's value, in Hydra's, JSON's or HTTP's spelling."""
    unescaped = text.replace("\\", "")  # it is escaped for a sweep's job
    if may_hold_secret(unescaped):
        for match in re.finditer(rf"{_MENTION}\s*[\"'\\]*{_SCHEME}{_VALUE}?", unescaped):
            yield match[1] or text


def find_in_arguments(arguments: Sequence[str]) -> Iterator[str]:
    """Yields the secrets of Hydra overrides, including all choices of a sweep, or of a whole command line."""
    for argument in arguments:
        yield from find(argument)
        if not mentions_key(argument) and "://" not in argument.replace("\\", ""):
            continue
        from hydra.core.override_parser.overrides_parser import OverridesParser  # not for a command without secrets

        parser = OverridesParser.create()
        try:
            override = parser.parse_override(argument)
            values = list(override.sweep_iterator()) if override.is_sweep_override() else [override.value()]
        # A flag, or not an override at all: Hydra will report it, and print it.
        except Exception:  # noqa: BLE001
            key, _, value = argument.partition("=")
            yield from find({key.lstrip("+~-"): value.strip("\"'")})
            yield from (found for found in find_mentioned(value) if not is_harmless(found))
        else:
            for choice in values:
                yield from find({override.key_or_group: _to_builtin(choice)})


def _to_builtin(value: object) -> object:
    """Returns the value of an override with plain text for quoted text."""
    if isinstance(value, Mapping):
        return {_to_builtin(key): _to_builtin(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_to_builtin(item) for item in value]
    return getattr(value, "text", value)


def secret_variables(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Returns the environment's secrets: value -> variable. The path of an existing file is not a secret."""
    return {
        value: name
        for name, value in sorted(environment.items(), reverse=True)
        if is_secret_variable(name) and len(value) >= MIN_SECRET_LENGTH and not _exists(value)
    }


def _exists(path: str) -> bool:
    try:
        return Path(path).exists()
    except OSError:  # too long for a path, or below a folder that is not ours
        return False


def secret_interpolations(raw: str) -> tuple[list[str], list[str]]:
    """Returns the secret variables that a text interpolates, and their defaults."""
    found = [(name, default) for name, default in _ENVIRONMENT.findall(raw) if is_secret_variable(name)]
    return [name for name, _ in found], [default.strip(" '\"") for _, default in found if default]


def referred_variable(raw: str) -> str | None:
    """Returns NAME if the text is exactly `${oc.env:NAME}`; None if it is anything else."""
    match = _ENVIRONMENT.fullmatch(raw)
    return match[1] if match else None


def forms(secret: str) -> set[str]:
    """Returns the ways in which a secret may be written: its parts, and their escaped and encoded forms."""
    parts = {secret, unquote(secret), *secret.splitlines()}
    scheme, _, rest = secret.partition(" ")
    if scheme.lower() in _SCHEMES:
        parts.add(rest.strip())
    for part in list(parts):  # HTTP's Basic authorization
        with contextlib.suppress(ValueError):
            decoded = base64.b64decode(part, validate=True).decode()
            parts |= {decoded, decoded.partition(":")[2]} if ":" in decoded and decoded.isprintable() else set()
    kept = {part.strip() for part in parts if len(part.strip()) >= MIN_SECRET_LENGTH} - {*_SCHEMES, "Bearer", "Basic"}
    found = set()
    for part in kept:
        encoded = part.encode("utf-8", "surrogatepass")
        found |= {
            part,
            quote(encoded, safe=""),
            quote(encoded),
            quote_plus(encoded),
            repr(part)[1:-1],
            json.dumps(part)[1:-1],
            json.dumps(part, ensure_ascii=False)[1:-1],
            re.sub(r"([\\()\[\]{}:=, \t])", r"\\\1", part),  # as Hydra escapes an override
            part.replace("\\", "\\\\").replace("'", "\\'"),
            part.replace("'", "''"),  # YAML
            base64.b64encode(encoded).decode(),
            base64.urlsafe_b64encode(encoded).decode(),
        }
    return {form for form in found if form not in REDACTED}
