"""A hub of our own on the loopback: what is fetched, what is cached, and how soon one knows that there is none."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

from specdec_bench import datasets, hub
from specdec_bench.config.schema.dataset import MTBenchDataset
from specdec_bench.datasets import mt_bench
from specdec_bench.errors import DatasetError

QUESTION = b'{"question_id": 81, "category": "writing", "turns": ["Write.", "Rewrite."]}\n'
ADDRESS = f"/datasets/{mt_bench.HUB_REPOSITORY}/resolve/{mt_bench.HUB_REVISION}/{mt_bench.HUB_FILE}"


class Hub(BaseHTTPRequestHandler):
    """Has one file."""

    requested: list[str]
    files: dict[str, bytes]

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.requested.append(f"{self.command} {self.path}")
        content = self.files.get(self.path)
        self.send_response(404 if content is None else 200)
        self.send_header("ETag", '"0123456789abcdef"')
        self.send_header("X-Repo-Commit", mt_bench.HUB_REVISION)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        if self.command == "GET" and content:
            self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def hub_at(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Returns a function that says where the hub is; the cache is empty, and no proxy is used."""

    def at(endpoint: str) -> None:
        monkeypatch.setattr(constants, "ENDPOINT", endpoint)
        monkeypatch.setattr(
            constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
        )
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setenv("no_proxy", "127.0.0.1")

    return at


@pytest.fixture
def served(hub_at: Callable[[str], None]) -> Iterator[type[Hub]]:
    handler = type("OneHub", (Hub,), {"requested": [], "files": {ADDRESS: QUESTION}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    hub_at(f"http://127.0.0.1:{server.server_port}")
    yield handler
    server.shutdown()
    server.server_close()


def test_the_questions_are_fetched_once_and_then_taken_from_the_cache(served: type[Hub]) -> None:
    (prompt,) = datasets.load(MTBenchDataset(), seed=0).prompts
    assert (prompt.prompt_id, prompt.turns) == ("81", ("Write.", "Rewrite."))
    assert f"GET {ADDRESS}" in served.requested, "at the pinned revision"
    served.requested.clear()
    assert datasets.load(MTBenchDataset(), seed=0).prompts == [prompt]
    assert served.requested == [], "a cached file needs no hub"


def test_a_file_that_the_hub_does_not_have_is_named(served: type[Hub]) -> None:
    served.files.clear()
    with pytest.raises(
        DatasetError, match=r"raw/question\.jsonl of the hub's .*: cannot be fetched: .*dataset\.path="
    ) as caught:
        datasets.load(MTBenchDataset(), seed=0)
    assert len(str(caught.value).splitlines()) == 1


def test_a_hub_that_refuses_the_connection_is_out_of_reach(hub_at: Callable[[str], None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    hub_at(f"http://127.0.0.1:{port}")
    with pytest.raises(DatasetError, match=r"the hub cannot be reached from here; pass dataset\.path=question\.jsonl"):
        datasets.load(MTBenchDataset(), seed=0)


def test_a_hub_that_never_answers_is_given_up(hub_at: Callable[[str], None]) -> None:
    """As behind a firewall that drops everything. The bound is that of the setting, far below the library's own."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        hub_at(f"http://127.0.0.1:{silent.getsockname()[1]}")
        began = time.monotonic()
        assert not hub.is_reachable()
        assert time.monotonic() - began < 10 * hub.REACH_TIMEOUT_S


def test_offline_by_choice_is_never_asked(served: type[Hub], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DatasetError, match="the hub cannot be reached"):
        datasets.load(MTBenchDataset(), seed=0)
    assert served.requested == []


# ---------------------------------------------------------------- any other address


def test_a_file_of_the_web_is_fetched_once(served: type[Hub], tmp_path: Path) -> None:
    served.files["/a/f.json"] = b"[1]"
    url = f"{constants.ENDPOINT}/a/f.json"
    path = hub.fetch_url(url)
    assert (path.name, path.read_bytes()) == ("f.json", b"[1]")
    assert [other.name for other in path.parent.iterdir()] == ["f.json"], "nothing unfinished is left"
    served.requested.clear()
    assert hub.fetch_url(url) == path
    assert served.requested == []


def test_a_file_that_was_cut_off_is_not_kept(
    served: type[Hub], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served.files["/a/f.json"] = b"[1, 2, 3]"
    monkeypatch.setattr(hub.shutil, "copyfileobj", lambda source, target: target.write(source.read(4)))
    with pytest.raises(DatasetError, match=r"/a/f\.json: cannot be fetched: 4 of 9 bytes came"):
        hub.fetch_url(f"{constants.ENDPOINT}/a/f.json")
    assert list((tmp_path / "home").rglob("*.*")) == []


@pytest.mark.parametrize("address", ["{hub}/gone", "file:///etc/hostname", "hub"])
def test_an_address_without_a_file_is_named(served: type[Hub], address: str) -> None:
    url = address.format(hub=constants.ENDPOINT)
    with pytest.raises(DatasetError, match=rf"{url}: (cannot be fetched: .*404|not an address of http)"):
        hub.fetch_url(url)


def test_the_web_out_of_reach_is_said_in_one_line(hub_at: Callable[[str], None]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    hub_at(f"http://127.0.0.1:{port}")
    with pytest.raises(DatasetError, match=r"x\.json: not in the cache, and the hub cannot be reached from here$"):
        hub.fetch_url("https://example.org/x.json")
