"""What identifies a set of prompts."""

import hashlib
from collections.abc import Iterable

from specdec_bench.records.canonical import canonical_json
from specdec_bench.records.request import Prompt


class PromptsDigest:
    """The sha256 over prompts in their order, as one canonical JSON array, of prompts that come one by one.

    Unset fields are left out, so that one added later does not change what old prompts have.
    """

    def __init__(self) -> None:
        self._hash = hashlib.sha256(b"[")
        self._separator = b""

    def add(self, prompt: Prompt) -> None:
        """Takes the next prompt."""
        plain = {name: value for name in prompt.__struct_fields__ if (value := getattr(prompt, name)) is not None}
        self._hash.update(self._separator + canonical_json(plain))
        self._separator = b","

    def hexdigest(self) -> str:
        """Returns the digest of what was taken so far."""
        whole = self._hash.copy()
        whole.update(b"]")
        return whole.hexdigest()


def prompts_fingerprint(prompts: Iterable[Prompt]) -> str:
    """Returns the sha256 over prompts; see `PromptsDigest`."""
    digest = PromptsDigest()
    for prompt in prompts:
        digest.add(prompt)
    return digest.hexdigest()
