"""Whether the Hugging Face hub answers, known within a second or two."""

import functools
import threading
import urllib.error
import urllib.request

REACH_TIMEOUT_S = 1.25
"""Within which the hub has to answer at all. Looking up a name has no timeout of its own, hence the thread."""


def is_offline_by_choice() -> bool:
    """Whether HF_HUB_OFFLINE is set, as huggingface_hub reads it."""
    from huggingface_hub import constants

    return bool(constants.HF_HUB_OFFLINE)


def is_reachable() -> bool:
    """Whether the hub answers within REACH_TIMEOUT_S, through proxies as they are set; False where one may not ask."""
    from huggingface_hub import constants

    return not is_offline_by_choice() and _answers(constants.ENDPOINT)


@functools.cache  # one that has to be waited for is waited for once
def _answers(address: str) -> bool:
    answers: list[bool] = []

    def ask() -> None:
        try:
            urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=REACH_TIMEOUT_S)
            answers.append(True)
        except urllib.error.HTTPError:
            answers.append(True)  # it answers; what it has to say about this address does not matter
        except (OSError, ValueError):
            answers.append(False)

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    thread.join(REACH_TIMEOUT_S)
    return answers == [True]
