"""Starts run.py and its processes as forks of one that has imported them: 50 ms instead of seconds of a core.

A forked process has its own arguments, folder, environment, files, signals and exit status. Python is not started anew,
so what Python or a library reads from the environment when it is imported is as it was here: `can_fork` says whether
that is right. Tests of signals, kills and installations start true processes.

`python -m tests.helpers.fork_server SOCKET NAME` is the server. It ends when its standard input does.
"""

import atexit
import contextlib
import gc
import importlib
import io
import os
import pickle
import runpy
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[2]
RUN = str(ROOT / "run.py")
COMMANDS = (
    "specdec_bench.cli.main",
    "specdec_bench.cli.run",
    "specdec_bench.sweep.grid",
    "specdec_bench.sweep.single",
    "specdec_bench.report.html.page",
    "specdec_bench.report.run_plots",
    "specdec_bench.report.sweep_plots",
    "specdec_bench.runner.worker",
    "specdec_bench.runner.client",
    "specdec_bench.engines.synthetic",
    "pandas",
)
"""What a run of the synthetic engine imports, with its processes."""
TOKENIZER = (*COMMANDS, "torch", "transformers.models.auto.tokenization_auto")
MODEL = (
    *TOKENIZER,
    "transformers.generation.utils",
    "transformers.models.llama.modeling_llama",
    "specdec_bench.engines.transformers",
)
LOADED = {"synthetic": COMMANDS, "server": TOKENIZER, "transformers": MODEL}
"""What each fork server has imported. None has more than its runs import: one that has torch archives accelerators."""
RUN_AS_MAIN = ("specdec_bench.runner.worker", "specdec_bench.runner.client")
"""Modules that a run starts as processes; each is imported anew, as __main__."""
READ_AT_IMPORT = ("PYTHON", "LC_", "LANG", "HF_", "TRANSFORMERS_", "MPL", "HOME", "OMP_", "TZ", "XDG_")
"""Beginnings of variables that Python or a library reads when it starts."""
STARTED_WITH = dict(os.environ)
"""The environment of the servers. A test may change this process's."""
_INT = struct.Struct("i")


def can_fork(environment: Mapping[str, str]) -> bool:
    """Whether a process with this environment would import the same as the servers have."""
    names = environment.keys() | STARTED_WITH.keys()
    changed = [name for name in names if environment.get(name, "") != STARTED_WITH.get(name, "")]
    return not any(name.startswith(READ_AT_IMPORT) for name in changed)


class ForkedProcess:
    """What `subprocess.Popen` is, of a process that the server has forked.

    Raises, as Popen, `subprocess.TimeoutExpired`.
    """

    stdout: IO[Any] | None = None
    stderr: IO[Any] | None = None

    def __init__(
        self,
        args: Sequence[str],
        *,
        cwd: str | Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: int | None = None,
        stdout: int | None = None,
        stderr: int | None = None,
        pass_fds: Sequence[int] = (),
        start_new_session: bool = False,
        text: bool = False,
        encoding: str | None = None,
        errors: str | None = None,
        server: str = "synthetic",
    ) -> None:
        self.args = args
        self.returncode: int | None = None
        self.stdin = self.stdout = self.stderr = None
        with contextlib.ExitStack() as theirs:
            standard = [_descriptor(0, stdin, theirs), *self._outputs(stdout, stderr, theirs)]
            if text or encoding is not None:
                self.stdout = _text(self.stdout, encoding, errors)
                self.stderr = _text(self.stderr, encoding, errors)
            wanted = {
                "arguments": list(args[1:]),
                "folder": str(cwd or Path.cwd()),
                "environment": dict(os.environ if env is None else env),
                "descriptors": [0, 1, 2, *pass_fds],
                "is_leader": start_new_session,
                "addresses": _addresses,
                "masked": signal.pthread_sigmask(signal.SIG_BLOCK, []),
            }
            self._connection = socket.socket(socket.AF_UNIX)
            self._connection.connect(address_of(server))
            # The descriptors come with the first byte.
            socket.send_fds(self._connection, [b"."], [*standard, *pass_fds])
            content = pickle.dumps(wanted)
            self._connection.sendall(_INT.pack(len(content)) + content)
            self.pid: int = _INT.unpack(_receive(self._connection, _INT.size))[0]

    def _outputs(self, stdout: int | None, stderr: int | None, theirs: contextlib.ExitStack) -> list[int]:
        ends = []
        for number, name, wanted in ((1, "stdout", stdout), (2, "stderr", stderr)):
            if wanted == subprocess.PIPE:
                ours, end = os.pipe()
                theirs.callback(os.close, end)
                setattr(self, name, os.fdopen(ours, "rb"))
                ends.append(end)
            else:
                ends.append(ends[0] if wanted == subprocess.STDOUT else _descriptor(number, wanted, theirs))
        return ends

    def poll(self) -> int | None:
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.wait(0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            if not _is_readable(self._connection, timeout):
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
            try:
                self.returncode = _INT.unpack(_receive(self._connection, _INT.size))[0]
            except EOFError:  # the server is gone, and who waited for the process with it
                self.returncode = -signal.SIGKILL
            self._connection.close()
        return self.returncode

    def kill(self) -> None:
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def communicate(self, timeout: float) -> tuple[Any, Any]:
        """Returns what both pipes gave until they ended. Kills the process if they do not in time."""
        deadline_s = time.monotonic() + timeout
        pipes = [pipe for pipe in (self.stdout, self.stderr) if pipe is not None]
        open_now = {pipe.fileno(): pipe for pipe in pipes}
        chunks = dict.fromkeys(pipes, b"")
        while open_now:
            ready, _, _ = select.select(list(open_now), [], [], max(deadline_s - time.monotonic(), 0))
            if not ready:
                self.kill()
                for pipe in pipes:
                    pipe.close()
                raise subprocess.TimeoutExpired(self.args, timeout)
            for descriptor in ready:
                chunk = os.read(descriptor, 1 << 16)
                chunks[open_now[descriptor]] += chunk
                if not chunk:
                    open_now.pop(descriptor).close()
        self.wait(max(deadline_s - time.monotonic(), 0))
        out, err = (
            None if pipe is None else _text(io.BytesIO(chunks[pipe]), None, None) for pipe in (self.stdout, self.stderr)
        )
        return out and out.read(), err and err.read()


def _text(pipe: IO[bytes] | None, encoding: str | None, errors: str | None) -> IO[str] | None:
    return None if pipe is None else io.TextIOWrapper(pipe, encoding or "utf-8", errors)


def _descriptor(number: int, wanted: int | None, opened: contextlib.ExitStack) -> int:
    """Returns what a process is to have as this standard stream."""
    if wanted == subprocess.DEVNULL:
        descriptor = os.open(os.devnull, os.O_RDWR)
        opened.callback(os.close, descriptor)
        return descriptor
    return number if wanted is None else wanted


def _is_readable(connection: socket.socket, timeout: float | None) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(None if timeout is None else max(timeout, 0) * 1000))


def _receive(connection: socket.socket, size: int) -> bytes:
    content = b""
    while len(content) < size:
        chunk = connection.recv(size - len(content))
        if not chunk:
            raise EOFError("the fork server ended the connection")
        content += chunk
    return content


@contextlib.contextmanager
def forked_processes(server: str) -> Iterator[None]:
    """A run in this process has its measuring processes and clients forked."""
    modules: list[Any] = [importlib.import_module(f"specdec_bench.runner.{name}") for name in ("clients", "process")]

    def popen(args: Sequence[str], **options: Any) -> Any:
        # A run adds its package's folder for its processes, which find it anyway.
        if not can_fork({**(options.get("env") or os.environ), "PYTHONPATH": os.environ.get("PYTHONPATH", "")}):
            return subprocess.Popen(args, **options)
        return ForkedProcess(args, server=server, **options)

    forking = SimpleNamespace(**vars(subprocess) | {"Popen": popen})
    for module in modules:
        module.subprocess = forking
    try:
        yield
    finally:
        for module in modules:
            module.subprocess = subprocess


def server_for(arguments: Sequence[str]) -> str:
    """Returns the fork server that has imported what this command's measuring process needs."""
    engines = [argument.removeprefix("engine=") for argument in arguments if argument.startswith("engine=")]
    if engines:
        known = "server" if engines[0].endswith("_server") else engines[0]
        return known if known in LOADED else "synthetic"
    is_experiment = all("=" in argument or argument == "-m" for argument in arguments)
    is_resumed = any(argument.startswith("resume=") for argument in arguments)
    return "transformers" if is_experiment and not is_resumed else "synthetic"


_addresses: dict[str, str] = {}
"""The servers' sockets."""
_running: dict["subprocess.Popen[bytes]", str] = {}
"""The servers that this process has started, and the folders of their sockets."""


def address_of(server: str) -> str:
    """Returns the socket of a server, which is started if there is none. Processes that are forked later know it."""
    if server not in _addresses:
        _addresses[server] = _start(server)
    return _addresses[server]


def _start(server: str) -> str:
    """Starts a server, which ends with this process."""
    folder = tempfile.mkdtemp()
    address = f"{folder}/{server}"
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(address)
    listening.listen(64)
    process = subprocess.Popen(
        [sys.executable, "-m", __name__, str(listening.fileno()), server],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        env=STARTED_WITH,
        pass_fds=[listening.fileno()],
        start_new_session=True,
    )
    listening.close()
    _running[process] = folder
    return address


@atexit.register  # before a run's measuring process is: that must be ended while its server is there
def _end() -> None:
    for process, folder in _running.items():
        assert process.stdin is not None
        process.stdin.close()
        process.wait()
        shutil.rmtree(folder)


def warm_up() -> None:
    """Has grammars and fonts loaded, which takes longer than what most tests do with them."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    OverridesParser.create().parse_overrides(["spec.draft_length=1,2", "engine.acceptance_rates=[1.0]"])
    figure = Figure(layout="constrained")
    figure.subplots().set(title="a", xlabel="b")
    FigureCanvasAgg(figure)
    figure.savefig(io.BytesIO(), format="png")


def serve(listening: socket.socket) -> dict[str, Any]:
    """Forks a process for each connection, and returns in that process what it is to run."""
    while True:
        with contextlib.suppress(ChildProcessError):
            while os.waitpid(-1, os.WNOHANG)[0]:
                pass
        ready, _, _ = select.select([listening.fileno(), 0], [], [])
        if 0 in ready:
            os.killpg(0, signal.SIGKILL)  # and whatever it has left
        connection, _ = listening.accept()
        if os.fork() == 0:
            break
        connection.close()
    listening.close()
    _, received, _, _ = socket.recv_fds(connection, 1, 16)
    wanted: dict[str, Any] = pickle.loads(_receive(connection, _INT.unpack(_receive(connection, _INT.size))[0]))
    pid = os.fork()
    if pid == 0:
        connection.close()
        return wanted | {"received": received}
    for descriptor in received:
        os.close(descriptor)
    # The requester may be gone.
    with contextlib.suppress(OSError):
        connection.sendall(_INT.pack(pid))
        connection.sendall(_INT.pack(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])))
    os._exit(0)


def become(wanted: dict[str, Any]) -> None:
    """Gives this process what a new one would have been started with."""
    if wanted["is_leader"]:
        os.setsid()
    received, numbers = wanted["received"], wanted["descriptors"]
    # First out of the way of the numbers that they are to have.
    aside = [os.dup2(descriptor, 200 + at) for at, descriptor in enumerate(received)]
    for descriptor in received:
        os.close(descriptor)
    for descriptor, number in zip(aside, numbers, strict=True):
        os.dup2(descriptor, number)
        os.close(descriptor)
    _addresses.update(wanted["addresses"])
    os.chdir(wanted["folder"])
    os.environ.clear()
    os.environ.update(wanted["environment"])
    sys.stdin = sys.__stdin__ = os.fdopen(0, encoding=sys.stdin.encoding, closefd=False)  # type: ignore[misc]
    for number, name in ((1, "stdout"), (2, "stderr")):
        before = getattr(sys, name)
        stream = os.fdopen(number, "w", encoding=before.encoding, errors=before.errors, closefd=False)
        stream.reconfigure(line_buffering=number == 2 or stream.isatty(), write_through=before.write_through)
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
    signal.pthread_sigmask(signal.SIG_SETMASK, wanted["masked"])


def main() -> None:
    """Entry point of the server, and of each process that it forks."""
    descriptor = int(sys.argv[1])
    for name in LOADED[sys.argv[2]]:
        importlib.import_module(name)
    for name in RUN_AS_MAIN:
        del sys.modules[name]
    warm_up()
    gc.collect()
    gc.freeze()
    wanted = serve(socket.socket(fileno=descriptor))
    become(wanted)
    gc.unfreeze()
    arguments = wanted["arguments"]
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return
    sys.argv, sys.path[0] = arguments, str(ROOT)
    with forked_processes(server_for(arguments[1:])):
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main()
