"""Files of the Hugging Face hub, and whether the hub answers."""

import contextlib
import functools
import hashlib
import os
import secrets
import shutil
import threading
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from specdec_bench.errors import DatasetError, first_line


def cache_folder() -> Path:
    """Returns the folder for what the project itself fetches: below HF_HOME, as huggingface_hub reads it."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "huggingface")
    return Path(os.path.expandvars(home)).expanduser() / "specdec_bench"


REACH_TIMEOUT_S = 1.25
"""Time for the hub to answer. Looking up a host name has no timeout of its own, hence the thread."""


def is_offline_by_choice() -> bool:
    """Whether HF_HUB_OFFLINE is set, as huggingface_hub reads it."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def is_reachable() -> bool:
    """Whether the hub answers within REACH_TIMEOUT_S, through configured proxies; False if HF_HUB_OFFLINE is set."""
    from huggingface_hub import constants

    return not is_offline_by_choice() and _answers(constants.ENDPOINT)


@functools.cache  # so that a hub that does not answer costs the timeout once
def _answers(address: str) -> bool:
    answers: list[bool] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=REACH_TIMEOUT_S)
            answers.append(True)
        except urllib.error.HTTPError:
            answers.append(True)  # it answers; the status does not matter
        except (OSError, ValueError):
            answers.append(False)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(REACH_TIMEOUT_S)
    return answers == [True]


_FETCH_TIMEOUT_S = 60
"""Longest silence while a file is fetched."""


def fetch(repository: str, revision: str, filename: str, instead: str | None = None) -> Path:
    """Returns a dataset's file from the local cache, else from the hub.

    Args:
        repository: owner/name of the dataset.
        revision: the pinned commit.
        filename: within the repository.
        instead: what a user without the hub can do, for the message; None if the caller says it.

    Raises:
        DatasetError: it is not in the cache, and the hub cannot be reached or does not have it.
    """
    what = f"{filename} of the hub's {repository}"
    hub = import_hub(what)
    then = "" if instead is None else f"; {instead}"
    which = {"repo_id": repository, "filename": filename, "repo_type": "dataset", "revision": revision}
    with contextlib.suppress(OSError, ValueError):  # not in the cache
        return Path(hub.hf_hub_download(**which, local_files_only=True))
    if not is_reachable():
        raise DatasetError(f"{what}: not in the cache, and the hub cannot be reached from here{then}")
    try:
        return Path(hub.hf_hub_download(**which))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{what}: cannot be fetched: {first_line(error)}{then}") from None


def fetch_url(url: str) -> Path:
    """Returns a file of the web from the cache below HF_HOME, or downloads it whole.

    Args:
        url: of http or https.

    Raises:
        DatasetError: the file is not in the cache and cannot be fetched.
    """
    import_hub(url)
    if not url.startswith(("https://", "http://")):
        raise DatasetError(f"{url}: not an address of http or https")
    path = cache_folder() / hashlib.sha256(url.encode()).hexdigest()[:16] / Path(url).name
    if path.is_file():
        return path
    if not is_reachable():
        raise DatasetError(f"{url}: not in the cache, and the hub cannot be reached from here")
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    import urllib.request

    try:
        with urllib.request.urlopen(url, timeout=_FETCH_TIMEOUT_S) as answer, temporary.open("wb") as file:
            shutil.copyfileobj(answer, file)
            length = answer.headers.get("Content-Length")
        if length is not None and temporary.stat().st_size != int(length):
            raise OSError(f"{temporary.stat().st_size} of {length} bytes came")
        temporary.replace(path)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{url}: cannot be fetched: {error}") from None
    finally:
        temporary.unlink(missing_ok=True)
    return path


def import_hub(what: str) -> Any:
    """Returns huggingface_hub.

    Raises:
        DatasetError: it is not installed.
    """
    try:
        import huggingface_hub
    except ImportError:
        raise DatasetError(f"{what}: needs huggingface_hub; install specdec-bench[data]") from None
    return huggingface_hub
