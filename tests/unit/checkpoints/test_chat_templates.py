"""Other templates than the tokenizer's, none at all, and those that fail."""

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from specdec_bench.checkpoints import chat as chatting
from specdec_bench.checkpoints.prompter import first_request
from specdec_bench.config.schema.model import ModelConfig
from specdec_bench.errors import ConfigError
from specdec_bench.records.request import Prompt
from tests.helpers.word_tokenizer import TEMPLATE, NewCheckpoint, chat, ids


@pytest.mark.parametrize("own", [TEMPLATE, None], ids=["own template", "none of its own"])
def test_a_template_can_be_given(checkpoint: NewCheckpoint, own: str | None) -> None:
    given = (
        "{% for m in messages %}{{ m['role'] == 'user' and '<user> ' or '<bot> ' }}{{ m['content'] }} {% endfor %}<bot>"
    )
    found = chat(checkpoint(own), chat_template=given).encode(None, ["hello", "bye"], ["there"])
    assert found == ids("<user> hello <bot> there <user> bye <bot>")


def test_a_template_gets_its_arguments(checkpoint: NewCheckpoint) -> None:
    path = checkpoint("{% if enable_thinking %}fine{% else %}bye{% endif %} {{ messages[0]['content'] }}")
    assert chat(path).encode(None, ["hello"], []) == ids("bye hello")
    assert chat(path, chat_template_kwargs={"enable_thinking": True}).encode(None, ["hello"], []) == ids("fine hello")


CLOCK = "{{ strftime_now('%d') == '05' and 'good' or 'fine' }} {{ messages[0]['content'] }}"


def test_a_template_that_reads_the_clock_is_told_the_date(checkpoint: NewCheckpoint) -> None:
    path = checkpoint(CLOCK)
    assert chat(path, template_date="2025-08-05").encode(None, ["hello"], []) == ids("good hello")
    assert chat(path, template_date="2025-08-06").encode(None, ["hello"], []) == ids("fine hello")


def test_a_template_that_reads_the_clock_is_refused_without_a_date(checkpoint: NewCheckpoint) -> None:
    with pytest.raises(ConfigError, match=r"template_date=null: .*; pass model\.template_date=YYYY-MM-DD"):
        chat(checkpoint(CLOCK))


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ raise_exception('no\ntwo lines') }}", "refuses the conversation: no$"),
        ("{% if %}", "refuses the conversation"),
    ],
)
def test_a_template_that_fails_is_refused_in_one_line(checkpoint: NewCheckpoint, template: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        chat(checkpoint(template))
    assert len(str(caught.value).splitlines()) == 1


ENDLESS = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"


@pytest.mark.parametrize(
    ("template", "words"),
    [
        ("{{ 1 + 'a' }}", "fails: TypeError: unsupported operand"),
        ("{{ messages[0].nothing.more }}", "refuses the conversation: .* has no attribute"),
        ("{{ {}[messages].x }}", "refuses the conversation|fails: TypeError"),
        ("{{ messages[0]['content'].format(*[]) }}{{ '{x}'.format() }}", "fails: KeyError: 'x'"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "fails: RecursionError: maximum recursion depth"),
        ("{{ range(10**9) }}", "fails: OverflowError: Range too big"),
        ("{{ raise_exception('\x1b[2J\u202eno') }}", r"refuses the conversation: \\x1b\[2J\\u202eno$"),
        ("{{ ''.__class__.__mro__ }}", "refuses the conversation: access to attribute '__class__'"),
    ],
)
def test_whatever_a_template_raises_is_one_clean_line(checkpoint: NewCheckpoint, template: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as caught:
        chat(checkpoint(template))
    assert str(caught.value).isprintable()


def test_a_template_that_does_not_end_is_given_up(checkpoint: NewCheckpoint, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chatting, "TEMPLATE_TIME_LIMIT_S", 0.2)
    with pytest.raises(ConfigError, match=r"did not end within 0\.2 s; pass another with model\.chat_template=FILE"):
        chat(checkpoint(ENDLESS))
    late = chat(checkpoint("{% if messages|length > 1 %}" + ENDLESS + "{% endif %}" + TEMPLATE))
    with pytest.raises(ConfigError, match=r"did not end within 0\.2 s"), ThreadPoolExecutor(1) as thread:
        thread.submit(late.encode, None, ["hello", "bye"], ["there"]).result()


def test_templates_with_names_and_no_default_are_refused(checkpoint: NewCheckpoint) -> None:
    path = checkpoint()
    (path / "chat_template.jinja").unlink(missing_ok=True)
    file = path / "tokenizer_config.json"
    configured = json.loads(file.read_text(encoding="utf-8"))
    named = [{"name": name, "template": TEMPLATE} for name in ("tool_use", "rag")]
    file.write_text(json.dumps(configured | {"chat_template": named}), encoding="utf-8")
    with pytest.raises(ConfigError, match="has the chat templates rag, tool_use and no default one"):
        chat(path)
    assert chat(path, chat_template=TEMPLATE).encode(None, ["hello"], []) == ids("<s> <user> hello <end> <bot>")


class Panic(BaseException):
    """What the tokenizers' Rust code raises is no Exception."""


@pytest.mark.parametrize("error", [Panic("index out of bounds"), ValueError("no\nmore"), MemoryError()])
def test_whatever_a_tokenizer_raises_is_one_line_that_names_the_prompt(
    checkpoint: NewCheckpoint, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    prompter = chat(checkpoint(), prompt_format="completions")

    def broken(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(prompter, "_tokenizer", broken)
    prompt = Prompt(prompt_id="p7", category="c", turns=("hello",))
    with pytest.raises(ConfigError, match=rf"prompt p7: the tokenizer of .* fails: {type(error).__name__}") as caught:
        first_request(prompter, prompt)
    assert len(str(caught.value).splitlines()) == 1


def test_a_broken_tokenizer_is_refused_in_one_line(checkpoint: NewCheckpoint) -> None:
    path = checkpoint()
    (path / "tokenizer.json").write_text('{"version": "1.0", "model": {}}')
    with pytest.raises(ConfigError, match=rf"model\.path={path}: no tokenizer can be loaded: ") as caught:
        chat(path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("prompt_format", ["chat", "completions"])
def test_half_of_a_surrogate_pair_is_refused(checkpoint: NewCheckpoint, prompt_format: str) -> None:
    prompter = chat(checkpoint(), prompt_format=prompt_format)
    prompt = Prompt(prompt_id="p7", category="c", turns=("half \ud83d of it",))
    with pytest.raises(ConfigError, match="prompt p7: its text has half of a surrogate pair at character 5"):
        first_request(prompter, prompt)


def test_completions_are_bare_text_with_one_beginning_of_sequence(checkpoint: NewCheckpoint) -> None:
    path = checkpoint(template=None)
    prompter = chat(path, prompt_format="completions")
    assert prompter.encode("be brief", ["hello", "how are you"], ["there"]) == ids(
        "<s> be brief hello there how are you"
    )
    assert chat(path, prompt_format="completions", add_bos=False).encode(None, ["hello"], []) == ids("hello")


@pytest.mark.parametrize("template", [TEMPLATE, TEMPLATE.removeprefix("{{ bos_token }}")])
def test_a_beginning_of_sequence_that_is_asked_for_is_never_doubled(checkpoint: NewCheckpoint, template: str) -> None:
    found = chat(checkpoint(template), add_bos=True).encode(None, ["hello"], [])
    assert found == ids("<s> <user> hello <end> <bot>")


def test_a_beginning_of_sequence_that_is_not_there_cannot_be_asked_for(tmp_path: Path) -> None:
    tokenizer = Tokenizer(models.WordLevel({"a": 0, "<unk>": 1}, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="<unk>").save_pretrained(tmp_path)
    assert chat(tmp_path, prompt_format="completions").encode(None, ["a"], []) == (0,)
    with pytest.raises(ConfigError, match=r"model\.add_bos=true: the tokenizer has no beginning-of-sequence token"):
        chat(tmp_path, prompt_format="completions", add_bos=True)


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"prompt_format": "raw"}, r"model\.prompt_format=raw: use chat or completions"),
        ({"reply_format": "none"}, r"model\.reply_format=none: use text, harmony or think"),
        ({"template_date": "yesterday"}, r"model\.template_date=yesterday: must be a date as in 2025-08-05"),
        ({"template_date": "20250805"}, r"model\.template_date=20250805: must be a date"),
        ({"template_date": "2025-02-30"}, r"model\.template_date=2025-02-30: must be a date"),
        ({"chat_template": "{}", "prompt_format": "completions"}, r"model\.chat_template={}: has no effect"),
        ({"chat_template_kwargs": {"tokenize": True}}, r"chat_template_kwargs\.tokenize=True: the project sets"),
    ],
)
def test_settings_that_cannot_be_are_refused(model: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        ModelConfig(name="m", path="p", **model)
