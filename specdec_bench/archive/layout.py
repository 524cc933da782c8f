"""The run directory: the one place that knows what is in each of its files."""

import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from specdec_bench.archive import codec, files
from specdec_bench.archive.names import CONFIG, HYDRA, LOG, MANIFEST, PROMPTS, REQUESTS, RESPONSES, SUMMARY
from specdec_bench.errors import ArchiveError, ArchiveInputError
from specdec_bench.records.manifest import Manifest
from specdec_bench.records.request import SCHEMA_VERSION, Prompt, Record, RequestRecord
from specdec_bench.records.summary import Summary

END_BYTES = 8192
"""Room for what the last manifest adds to the one before: an error, the engine's totals."""

T = TypeVar("T")

logger = logging.getLogger(__name__)


class Response(Record, frozen=True, kw_only=True, omit_defaults=True):
    """The text of one finished request: a line of responses.jsonl."""

    request_id: str
    prompt_id: str
    turn: int
    repeat: int
    text: str
    token_lengths: tuple[int, ...] | None = None
    """Characters of `text` that each output token adds. Told for a few replies only; None in older archives."""
    first_chunk_length: int | None = None
    """The same of the first chunk's tokens together. None in older archives, and where it is not known."""


class _SchemaVersion(Record, frozen=True, kw_only=True):
    """The field that the manifests of all releases have."""

    schema_version: int


_GROUPS = ("engine", "model", "dataset", "spec", "load", "sampling")
"""Groups that the configuration in every manifest has."""
_SCHEMA_VERSION: msgspec.json.Decoder[_SchemaVersion] = msgspec.json.Decoder(_SchemaVersion)
_MANIFEST: msgspec.json.Decoder[Manifest] = msgspec.json.Decoder(Manifest)
_PROMPT: msgspec.json.Decoder[Prompt] = msgspec.json.Decoder(Prompt)
_REQUEST: msgspec.json.Decoder[RequestRecord] = msgspec.json.Decoder(RequestRecord)
_RESPONSE: msgspec.json.Decoder[Response] = msgspec.json.Decoder(Response)
_SUMMARY: msgspec.json.Decoder[Summary] = msgspec.json.Decoder(Summary)


class RunDirectory:
    """One run's folder. Make one with `create` for a new run or `open` for one that is there."""

    def __init__(self, path: Path) -> None:
        """Names the folder without looking at it; callers want `create` or `open`."""
        self.path = path
        self.config_path = path / CONFIG
        self.manifest_path = path / MANIFEST
        self.prompts_path = path / PROMPTS
        self.requests_path = path / REQUESTS
        self.responses_path = path / RESPONSES
        self.summary_path = path / SUMMARY
        self.log_path = path / LOG
        self.hydra_path = path / HYDRA
        self._read_error: type[ArchiveError] = ArchiveInputError
        """The error for a file that cannot be read: it is the user's to fix, unless this process is writing the run."""

    @classmethod
    def create(
        cls, path: str | Path, manifest: Manifest, prompts: Sequence[Prompt], config_yaml: str
    ) -> "RunDirectory":
        """Claims a folder for a new run and writes what is known before it: manifest, then configuration and prompts.

        The folder may exist (Hydra makes it, with its log), but two runs never share one: if several processes
        try, one succeeds.

        Raises:
            ArchiveError: the folder holds a run, or cannot be written.
        """
        run = cls(Path(path))
        # Encoded before the claim, so that what cannot be archived leaves no half-made run behind.
        manifest_json = codec.encode_document(manifest)
        try:
            config = config_yaml.encode()
            prompt_lines = [codec.encode_line(prompt) for prompt in prompts]
        except (TypeError, ValueError) as error:
            raise ArchiveError(f"{run.path}: cannot archive the configuration or the prompts: {error}") from error
        with files.naming(run.path):
            run.path.mkdir(parents=True, exist_ok=True)
        run._claim(manifest_json)
        try:
            files.write_atomically(run.config_path, [config])
            files.write_atomically(run.prompts_path, prompt_lines)
            run._reserve_end(manifest_json)
        except BaseException:
            # The run has not begun, so no file may say that it has.
            files.release(run.manifest_path)
            for path in (run.prompts_path, run.config_path, run.manifest_path):
                with contextlib.suppress(OSError):
                    path.unlink(missing_ok=True)
            raise
        run._read_error = ArchiveError
        return run

    @classmethod
    def open(cls, path: str | Path) -> "RunDirectory":
        """Returns an existing run directory, whatever its status.

        Raises:
            ArchiveError: it is not a run directory, its manifest is broken, or a newer release wrote it.
        """
        run = cls(Path(path))
        run.manifest()
        return run

    @staticmethod
    def is_run(path: str | Path) -> bool:
        """Says whether the folder has been claimed by a run."""
        return files.is_file(Path(path) / MANIFEST)

    def _claim(self, manifest_json: bytes) -> None:
        with files.naming(self.manifest_path):
            try:
                descriptor = files.create_exclusively(self.manifest_path)
            except FileExistsError as error:
                raise ArchiveInputError(f"{self.path}: already holds a run; choose another output directory") from error
            try:
                files.write_all(descriptor, manifest_json)
                os.fsync(descriptor)
            except BaseException:
                self.manifest_path.unlink()
                raise
            finally:
                os.close(descriptor)
            files.sync_folder(self.path)

    def _reserve_end(self, manifest_json: bytes) -> None:
        """Reserves room for the last manifest, which says how the run ended, in case the disk is full by then."""
        files.reserve(self.manifest_path, len(manifest_json) + END_BYTES)

    def manifest(self) -> Manifest:
        """Returns the manifest as it is on disk now.

        Raises:
            ArchiveError: it is missing, broken, or of a newer release.
        """
        try:
            data = self.manifest_path.read_bytes()
        except (FileNotFoundError, NotADirectoryError) as error:
            raise self._read_error(
                f"{self.path}: not a run directory (no {MANIFEST}); give the folder that a run wrote"
            ) from error
        except (OSError, ValueError) as error:  # a name with a null byte
            reason = error.strerror if isinstance(error, OSError) else error
            raise self._read_error(f"{self.manifest_path}: cannot be read: {reason}; check the path") from error
        try:
            # The version is read first and alone: the rest of a newer manifest may not fit our type.
            version = codec.decode(data, _SCHEMA_VERSION).schema_version
            if version > SCHEMA_VERSION:
                raise self._read_error(
                    f"{self.manifest_path}: schema version {version}, but this release reads up to {SCHEMA_VERSION};"
                    " upgrade specdec-bench"
                )
            return codec.decode(data, _MANIFEST)
        except ValueError as error:
            raise self._read_error(
                f"{self.manifest_path}: not a manifest of this project ({error});"
                " restore the file, or delete the folder and run again"
            ) from error

    def check_config(self) -> None:
        """Refuses a run whose manifest lacks part of its configuration: it cannot be named, compared or run again.

        Raises:
            ArchiveError: naming the groups that its configuration lacks.
        """
        config = self.manifest().config
        if lacking := [name for name in _GROUPS if not isinstance(config.get(name), dict)]:
            raise self._read_error(f"{self.manifest_path}: its config has no {', '.join(lacking)}; restore the file")

    def write_manifest(self, manifest: Manifest) -> None:
        """Replaces the whole manifest.

        Raises:
            ArchiveError: it cannot be encoded or written; the old one is then untouched.
        """
        manifest_json = codec.encode_document(manifest)
        is_last = manifest.status != "started"
        if not is_last:
            self._reserve_end(manifest_json)
        files.write_atomically(self.manifest_path, [manifest_json], uses_reserve=is_last)

    def write_summary(self, summary: bytes) -> None:
        """Replaces summary.json by the encoded summary.

        Raises:
            ArchiveError: it cannot be written.
        """
        files.write_atomically(self.summary_path, [summary])

    def summary(self) -> Summary:
        """Returns summary.json.

        Raises:
            ArchiveError: it is missing (the run did not finish) or broken.
        """
        try:
            return codec.decode(self.summary_path.read_bytes(), _SUMMARY)
        except FileNotFoundError as error:
            raise self._read_error(f"{self.path}: has no {SUMMARY}; the run did not finish") from error
        except (OSError, ValueError) as error:
            raise self._read_error(f"{self.summary_path}: cannot be read: {error}; compute it again") from error

    def write_responses(self, responses: Iterable[Response]) -> None:
        """Replaces responses.jsonl.

        Raises:
            ArchiveError: it cannot be written.
        """
        files.write_atomically(self.responses_path, map(codec.encode_line, responses))

    def config(self) -> str:
        """Returns config.yaml: the resolved experiment as text.

        Raises:
            ArchiveError: it cannot be read.
        """
        try:
            return self.config_path.read_text(encoding="utf-8")
        except (OSError, ValueError) as error:
            raise self._read_error(f"{self.config_path}: cannot be read: {error}") from error

    def prompts(self) -> list[Prompt]:
        """Returns the prompts of the run, in the order in which they were selected.

        Raises:
            ArchiveError: the file is missing or any line is broken, even the last: the file is written whole.
        """
        if not self.prompts_path.is_file():
            raise self._read_error(f"{self.path}: has no {PROMPTS}; the run stopped before it was set up")
        return list(self._lines(self.prompts_path, _PROMPT, whole=lambda: True))

    def requests(self) -> Iterator[RequestRecord]:
        """Yields the requests in the order in which they finished, reading as it goes.

        A last line without its newline is left out, since the process was killed while it wrote; `torn_lines`
        counts it. A run that ended before its first request yields nothing.

        Raises:
            ArchiveError: a line is broken, or the run is marked finished and yet its file is missing or torn.
        """
        return self._lines(self.requests_path, _REQUEST, whole=self._is_finished)

    def responses(self) -> Iterator[Response]:
        """Yields the text of each finished request; nothing if the run ended before they were written.

        Raises:
            ArchiveError: as `requests`.
        """
        return self._lines(self.responses_path, _RESPONSE, whole=self._is_finished)

    def torn_lines(self) -> int:
        """Returns how many lines of requests.jsonl were cut off by the end of the process: 0 or 1.

        Raises:
            ArchiveError: the file cannot be read.
        """
        try:
            with self.requests_path.open("rb") as file:
                if file.seek(0, 2) == 0:
                    return 0
                file.seek(-1, 2)
                return int(file.read(1) != b"\n")
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise self._read_error(f"{self.requests_path}: cannot be read: {error.strerror}") from error

    def _is_finished(self) -> bool:
        return self.manifest().status == "finished"

    def _lines(self, path: Path, decoder: msgspec.json.Decoder[T], whole: Callable[[], bool]) -> Iterator[T]:
        """Yields the records of a file; `whole` says whether a missing file or a torn end is damage."""
        try:
            with path.open("rb") as file:
                # In binary, so that a line ends at a newline and nowhere else.
                for number, line in enumerate(file, start=1):
                    if not line.endswith(b"\n"):
                        if whole():
                            raise self._read_error(
                                f"{path}:{number}: cut off, though the run finished; restore the file"
                            )
                        logger.debug("%s:%d: left out, torn", path, number)
                        return
                    try:
                        record = codec.decode(line, decoder)
                    except ValueError as error:
                        raise self._read_error(f"{path}:{number}: broken line: {error}; restore the file") from error
                    yield record
        except FileNotFoundError as error:
            if whole():
                raise self._read_error(f"{path}: missing, though the run finished; restore the file") from error
        except OSError as error:
            raise self._read_error(f"{path}: cannot be read: {error}") from error
