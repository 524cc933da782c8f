"""`upload`: copies an archive to storage."""

from pathlib import Path

from specdec_bench.archive import RunDirectory, files
from specdec_bench.archive.names import CAPACITY
from specdec_bench.archive.redact import redact_text
from specdec_bench.archive.sweep_plan import run_folders
from specdec_bench.cli.archives import is_folder
from specdec_bench.cli.arguments import Parser
from specdec_bench.errors import ArchiveInputError, abbreviated
from specdec_bench.report.console import console
from specdec_bench.share.storage import open_storage, refuse_inside
from specdec_bench.share.upload import LocalFile, Stored, compare, find_files, send
from specdec_bench.sweep.directory import SweepDirectory


def upload(arguments: list[str]) -> int:
    """Copies a run or a sweep to a folder of any file system that fsspec knows, and verifies each file.

    Files that are there already are skipped, so that the same command goes on after an interruption. Nothing is ever
    deleted.
    """
    parser = Parser(prog="specdec-bench upload", description=upload.__doc__)
    parser.add_argument("dir", metavar="DIR", help="a run directory, a sweep's, or a capacity search's")
    parser.add_argument("url", metavar="URL", help="the folder to copy it to, such as s3://BUCKET/FOLDER")
    parser.add_argument("--dry-run", action="store_true", help="lists what would be sent; changes nothing")
    parser.add_argument("--overwrite", action="store_true", help="replaces files that differ from the archive's")
    parser.add_argument("--unfinished", action="store_true", help="also takes runs that were killed while they ran")
    options = parser.parse_args(arguments)
    folder = Path(options.dir)
    _refuse_no_archive(folder)
    _refuse_running(folder, takes_unfinished=options.unfinished)
    storage = open_storage(options.url)
    refuse_inside(storage, folder)
    paths, left_out = find_files(folder)
    compared = compare(folder, paths, storage)
    others = [file.name for file in compared if file.stored is Stored.other]
    if others and not options.overwrite:
        raise ArchiveInputError(
            f"{redact_text(options.url)}: {abbreviated(others)} differ from the archive's; nothing was sent; choose "
            "another folder, or pass --overwrite to replace what is there"
        )
    to_send = [file for file in compared if file.stored is not Stored.same]
    for path in left_out:
        _print(f"left out  {path.relative_to(folder)}: no regular file")
    if options.dry_run:
        for file in to_send:
            _print(f"would {_verb(file)}  {file.name}  {_size(file.num_bytes)}")
    else:
        for file in send(to_send, storage):
            _print(f"{_verb(file)}  {file.name}  {_size(file.num_bytes)}")
    done = "to upload" if options.dry_run else "uploaded and verified"
    num_bytes = sum(file.num_bytes for file in to_send)
    num_there = len(compared) - len(to_send)
    _print(f"{len(to_send)} files {done} ({_size(num_bytes)}), {num_there} already there  {redact_text(options.url)}")
    return 0


def _refuse_no_archive(folder: Path) -> None:
    """Refuses a folder that is neither a run's, nor a sweep's, nor a search's.

    Raises:
        ArchiveInputError: see above.
    """
    is_archive = is_folder(folder) and (
        RunDirectory.is_run(folder) or SweepDirectory(folder).is_sweep() or files.is_file(folder / CAPACITY)
    )
    if not is_archive:
        raise ArchiveInputError(f"{folder}: no run, sweep or capacity search; give the folder that one wrote")


def _refuse_running(folder: Path, *, takes_unfinished: bool) -> None:
    """Refuses an archive that a process still writes.

    Raises:
        ArchiveInputError: naming what runs.
    """
    if SweepDirectory(folder).is_running():
        raise ArchiveInputError(f"{folder}: its sweep is running; wait for it")
    # Runs below attempts/ were set aside, and are not among these.
    started = [str(path) for path in run_folders(folder) if RunDirectory.open(path).manifest().status == "started"]
    if started and not takes_unfinished:
        raise ArchiveInputError(
            f"{abbreviated(started)}: is running, or was killed before it could say how it ended; wait for it, or "
            "pass --unfinished if no process runs it"
        )


def _verb(file: LocalFile) -> str:
    return "replace" if file.stored is Stored.other else "upload"


def _size(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:.1f} MB" if num_bytes >= 1e6 else f"{num_bytes / 1e3:.1f} kB"


def _print(line: str) -> None:
    console().print(line, markup=False, soft_wrap=True)
