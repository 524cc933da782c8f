"""The chat templates of a checkpoint's folder."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

from specdec_bench.checkpoints.files import find_json, names_in, read_text


class ChatTemplate(NamedTuple):
    """One template."""

    name: str
    """`default` if the checkpoint's template has no name."""
    file: str
    text: str

    @property
    def sha256(self) -> str:
        """The hash of its text."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()


def chat_templates(folder: Path, tokenizer_config: dict[str, Any]) -> tuple[ChatTemplate, ...]:
    """Returns a folder's templates by name, one each. Template files take precedence over tokenizer_config.json.

    Raises:
        ConfigError: a file is there that cannot be read.
    """
    found: dict[str, ChatTemplate] = {}

    def add(name: str, file: str, text: Any) -> None:
        if isinstance(text, str):
            found.setdefault(name, ChatTemplate(name, file, text))

    add("default", "chat_template.jinja", read_text(folder / "chat_template.jinja"))
    for name in names_in(folder / "additional_chat_templates", ".jinja"):
        file = f"additional_chat_templates/{name}"
        add(name.removesuffix(".jinja"), file, read_text(folder / file))
    configured = tokenizer_config.get("chat_template")
    for entry in configured if isinstance(configured, list) else []:
        if isinstance(entry, dict):
            add(str(entry.get("name")), "tokenizer_config.json", entry.get("template"))
    add("default", "tokenizer_config.json", configured)
    add("default", "chat_template.json", (find_json(folder / "chat_template.json") or {}).get("chat_template"))
    return tuple(found.values())
