"""Each fact where transformers or vLLM would find it, with the file that said it."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from specdec_bench.checkpoints.facts import CheckpointFacts, context_length, read_facts
from specdec_bench.config.checkpoints import ASSETS
from specdec_bench.errors import ConfigError
from tests.helpers.checkpoint_folders import write_json

VOCABULARY = {"model": {"type": "BPE", "vocab": {"a": 0, "</s>": 7}}, "added_tokens": [{"id": 9, "content": "<end>"}]}


def facts(folder: Path, **files: Any) -> CheckpointFacts:
    """Writes files (their names without .json) and reads them."""
    for name, content in files.items():
        write_json(folder / f"{name}.json", content)
    return read_facts(folder)


def stops(found: CheckpointFacts) -> set[int]:
    return found.end_token_ids | found.tokenizer_end_token_ids


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({"generation_config": {"eos_token_id": 3}}, {3}),
        ({"generation_config": {"eos_token_id": [3, 4]}}, {3, 4}),
        ({"config": {"eos_token_id": 5}}, {5}),
        ({"config": {"eos_token_id": [5, 6]}}, {5, 6}),
        ({"config": {"text_config": {"eos_token_id": 5}}}, {5}),
        ({"config": {"thinker_config": {"text_config": {"eos_token_id": 5}}}}, {5}),
        ({"config": {"eos_token_id": 4, "text_config": {"eos_token_id": 5}}}, {4}),
        # A generation config that names some is what transformers and vLLM go by; one that names none is not.
        ({"config": {"eos_token_id": 5}, "generation_config": {"eos_token_id": [3]}}, {3}),
        ({"config": {"eos_token_id": 5}, "generation_config": {"temperature": 0.5}}, {5}),
        ({"config": {"eos_token_id": 5}, "generation_config": {"eos_token_id": None}}, {5}),
        ({"tokenizer_config": {"eos_token": "</s>"}, "tokenizer": VOCABULARY}, {7}),
        ({"tokenizer_config": {"eos_token": {"content": "<end>"}}, "tokenizer": VOCABULARY}, {9}),
        ({"special_tokens_map": {"eos_token": "</s>"}, "tokenizer": VOCABULARY}, {7}),
        ({"special_tokens_map": {"eos_token": {"content": "</s>"}}, "tokenizer": VOCABULARY}, {7}),
        (
            {
                "tokenizer_config": {"eos_token": "<end>"},
                "special_tokens_map": {"eos_token": "</s>"},
                "tokenizer": VOCABULARY,
            },
            {9},
        ),
        ({"tokenizer_config": {"eos_token": "<e>", "added_tokens_decoder": {"8": {"content": "<e>"}}}}, {8}),
        ({"tokenizer_config": {"eos_token": "<e>"}, "added_tokens": {"<e>": 6}}, {6}),
        ({"tokenizer_config": {"eos_token": "<e>"}, "vocab": {"<e>": 2}}, {2}),
        ({"tokenizer_config": {"eos_token": "b"}, "tokenizer": {"model": {"vocab": [["a", -1.0], ["b", -2.0]]}}}, {1}),
        ({"tokenizer_config": {"eos_token": None}, "special_tokens_map": {"eos_token": "</s>"}}, set()),
        ({"tokenizer_config": {"eos_token": "<only its code knows>"}, "tokenizer": VOCABULARY}, set()),
        ({"config": {"eos_token_id": -1}}, set()),
        ({}, set()),
        (
            {
                "generation_config": {"eos_token_id": [3, 9]},
                "tokenizer_config": {"eos_token": "<end>"},
                "tokenizer": VOCABULARY,
            },
            {3, 9},
        ),
    ],
)
def test_the_tokens_that_end_a_reply(tmp_path: Path, files: dict[str, Any], expected: set[int]) -> None:
    assert stops(facts(tmp_path, **files)) == expected


def test_every_statement_is_kept_with_its_file(tmp_path: Path) -> None:
    kept = facts(
        tmp_path,
        config={"eos_token_id": 5, "vocab_size": 10, "torch_dtype": "float16", "model_type": "llama"},
        generation_config={"eos_token_id": 3},
        tokenizer_config={"eos_token": "</s>"},
        tokenizer=VOCABULARY,
    ).summary()
    found = json.loads(msgspec.json.encode(kept))
    assert found["end_of_sequence"] == [
        {"file": "generation_config.json", "token_ids": [3], "used": True},
        {"file": "config.json", "token_ids": [5], "used": False},
        {"file": "tokenizer_config.json", "token_ids": [7], "used": True},
    ]
    assert found["vocab_size"] == {"value": 10, "file": "config.json"}
    assert found["dtype"] == {"value": "float16", "file": "config.json"}
    assert found["model_type"] == {"value": "llama", "file": "config.json"}
    assert found["context_length"] is None


@pytest.mark.parametrize("value", ["2", 2.0, True, [1, None], {"id": 2}])
def test_an_end_of_sequence_that_is_no_id_is_refused(tmp_path: Path, value: Any) -> None:
    with pytest.raises(ConfigError, match=r"generation_config\.json: eos_token_id=.* is not a token id"):
        facts(tmp_path, generation_config={"eos_token_id": value})


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ({"max_position_embeddings": 64}, 64),
        ({"n_positions": 1024, "n_ctx": 1024}, 1024),
        ({"max_seq_len": 2048}, 2048),
        ({"seq_length": 100, "max_position_embeddings": 50}, 50),
        ({"max_position_embeddings": 8192, "model_max_length": 131072}, 131072),
        ({"text_config": {"max_position_embeddings": 64}, "max_position_embeddings": 9}, 64),
        ({"llm_config": {"max_position_embeddings": 64}}, 64),
        ({"max_position_embeddings": 64, "rope_scaling": {"type": "linear", "factor": 4.0}}, 256),
        ({"max_position_embeddings": 64, "rope_parameters": {"rope_type": "dynamic", "factor": 2}}, 128),
        ({"max_position_embeddings": 64, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, 64),
        ({"max_position_embeddings": 64, "rope_scaling": {"rope_type": "llama3", "factor": 8.0}}, 64),
        ({"max_position_embeddings": 64, "rope_scaling": {"type": "longrope", "factor": 8.0}}, 64),
        # 40960 positions, of which YaRN makes four times the 32768 that it was trained with.
        (
            {
                "max_position_embeddings": 40960,
                "rope_scaling": {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768},
            },
            131072,
        ),
        ({"max_position_embeddings": 131072, "rope_scaling": {"type": "yarn", "factor": 4.0}}, 131072),
        (
            {
                "model_type": "gemma3_text",
                "max_position_embeddings": 131072,
                "rope_parameters": {"full_attention": {"rope_type": "linear", "factor": 8.0}},
            },
            131072,
        ),
        (
            {
                "max_position_embeddings": 64,
                "rope_parameters": {
                    "full_attention": {"rope_type": "linear", "factor": 2.0},
                    "sliding_attention": {"rope_type": "default"},
                },
            },
            128,
        ),
        ({"max_position_embeddings": 64, "rope_scaling": {"type": "linear", "factor": None}}, 64),
        ({"max_position_embeddings": -1}, None),
        ({"max_position_embeddings": None}, None),
        ({}, None),
    ],
)
def test_the_context_length(config: dict[str, Any], expected: int | None) -> None:
    assert context_length(config) == expected


def test_chat_templates_wherever_they_are(tmp_path: Path) -> None:
    write_json(tmp_path / "chat_template.json", {"chat_template": "from json"})
    assert [tuple(t) for t in read_facts(tmp_path).chat_templates] == [("default", "chat_template.json", "from json")]
    write_json(tmp_path / "tokenizer_config.json", {"chat_template": "configured"})
    assert read_facts(tmp_path).chat_templates[0].file == "tokenizer_config.json"
    named = [{"name": "default", "template": "d"}, {"name": "tool_use", "template": "t"}]
    write_json(tmp_path / "tokenizer_config.json", {"chat_template": named})
    assert [template.name for template in read_facts(tmp_path).chat_templates] == ["default", "tool_use"]
    (tmp_path / "chat_template.jinja").write_text("own file")
    (tmp_path / "additional_chat_templates").mkdir()
    (tmp_path / "additional_chat_templates" / "rag.jinja").write_text("r")
    assert [tuple(t) for t in read_facts(tmp_path).chat_templates] == [
        ("default", "chat_template.jinja", "own file"),
        ("rag", "additional_chat_templates/rag.jinja", "r"),
        ("tool_use", "tokenizer_config.json", "t"),
    ]


FILES = (
    "config.json",
    "generation_config.json",
    "tokenizer_config.json",
    "tokenizer.json",
    "chat_template.json",
    "chat_template.jinja",
    "additional_chat_templates/a.jinja",
)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("fault", ["not UTF-8", "a folder", "a link that leads nowhere"])
def test_what_is_there_and_cannot_be_read_is_named(tmp_path: Path, name: str, fault: str) -> None:
    """It is never taken for absent."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    if fault == "not UTF-8":
        path.write_bytes(b'{"a": "\xff"}')
    elif fault == "a folder":
        path.mkdir()
    else:
        path.symlink_to("gone")
    with pytest.raises(ConfigError, match=rf"{name}: (is not UTF-8|cannot be read \()") as caught:
        read_facts(tmp_path)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", [name for name in FILES if name.endswith(".json")])
@pytest.mark.parametrize("text", ['{"eos_token_id": [1, 204],}', "", "[1]", "null", "[" * 100_000])
def test_json_that_is_broken_is_named(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ConfigError, match=rf"{name}: (cannot be read as JSON|holds no JSON object)"):
        read_facts(tmp_path)


@pytest.mark.parametrize("content", [{"version": "1.0"}, {"model": None}, {"model": []}])
def test_a_tokenizer_without_a_model_is_named(tmp_path: Path, content: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"tokenizer\.json: has no model"):
        facts(tmp_path, tokenizer=content)


def test_a_folder_that_cannot_be_listed_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"gone: cannot be read \(No such file"):
        read_facts(tmp_path / "gone")


def test_a_file_that_changed_is_read_again(tmp_path: Path) -> None:
    assert stops(facts(tmp_path, config={"eos_token_id": 1})) == {1}
    assert stops(facts(tmp_path, config={"eos_token_id": [2, 3]})) == {2, 3}


def test_the_bundled_target() -> None:
    found = read_facts(ASSETS / "tiny" / "target")
    assert stops(found) == {1}
    assert found.context_length == (8192, "config.json")
    assert found.vocab_size == (2048, "config.json")
    assert found.architectures == (["LlamaForCausalLM"], "config.json")
    assert found.token_ids is not None
    assert found.token_ids["<|end|>"] == 1
