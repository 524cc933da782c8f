"""The words by which the installed vLLM chooses a method are those that the project refuses."""

import re
from pathlib import Path

from specdec_bench.engines.vllm import arguments


def test_the_words_are_those_of_the_installed_vllm() -> None:
    """Every word that SpeculativeConfig looks for in a path, and every method for which it does not look."""
    from vllm.config import speculative

    text = Path(speculative.__file__).read_text(encoding="utf-8")
    words = re.findall(r'"([\w-]+)" in self\.draft_model_config\.model\.lower\(\)', text)
    assert words == list(arguments.METHODS_BY_NAME)
    (kept,) = re.findall(r"if self\.method in \(([^)]*)\):\n +pass", text)
    assert {*arguments.METHODS_THAT_KEEP_THEIR_NAME, "dspark"} == set(re.findall(r"\w+", kept))
