"""Hydra's launchers that run jobs in other processes and on other hosts.

They wait for their jobs one after another and give up at the first that died without a result. Here a lost job
counts as failed, and the launcher waits for the others.
"""

import contextlib
import os
import stat
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig

from specdec_bench.archive.redact import redact_log
from specdec_bench.errors import LauncherError, SpecDecBenchError, first_line
from specdec_bench.runner import signals

OnReturns = Callable[[Sequence[JobReturn]], None]
BeforeLaunch = Callable[[Sequence[Sequence[str]], int], None]
"""Takes the overrides of each job and the number of the first."""

POLL_S = 1.0
"""How often the state of submitted jobs is looked up."""
NUM_ABSENCES = 5
"""A job without a result counts as lost when it is missing from Slurm's queue this many times in a row."""
SUBMITIT = ".submitit"
"""Hydra's name for submitit's folder below a sweep's."""
CANCEL_TIMEOUT_S = 60.0
"""How long cancelled jobs may take to write how they ended."""


class FaultTolerantLauncher(Launcher):
    """A launcher that reports a lost job as failed."""

    def __init__(self, launcher: Launcher, on_returns: OnReturns, before_launch: BeforeLaunch | None = None) -> None:
        """Takes a launcher already set up, a callback for its results, and one that may refuse jobs beforehand."""
        self._launcher = launcher
        self._on_returns = on_returns
        self._before_launch = before_launch

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Does nothing: the launcher inside has been set up."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Returns the result of each job, once all have ended.

        Raises:
            LauncherError: the launcher could not run them.
        """
        if self._before_launch is not None:
            self._before_launch(job_overrides, initial_job_idx)
        plugin = type(self._launcher).__module__.split(".")[1]
        try:
            with _WAITING.get(plugin, contextlib.nullcontext)():
                returns = self._launcher.launch(job_overrides, initial_job_idx=initial_job_idx)
        except SpecDecBenchError:
            raise
        # The launchers' errors (sbatch refuses, a joblib worker is killed) have no common base.
        except Exception as error:
            if plugin == "core_plugins":
                raise
            words = " ".join(str(error).split()) or "no message"
            raise LauncherError(f"{type(self._launcher).__name__}: {type(error).__name__}: {words}") from error
        self._on_returns(returns)
        return returns


@contextlib.contextmanager
def wait_for_all_jobs(on_returns: OnReturns, before_launch: BeforeLaunch | None = None) -> Iterator[None]:
    """Wraps each launcher that Hydra makes within the block, also a sweeper's own, in a `FaultTolerantLauncher`."""
    from unittest import mock  # imports asyncio, which a refused configuration does not need

    plugins = Plugins.instance()
    instantiate = plugins.instantiate_launcher

    def instantiate_patient(**arguments: Any) -> Launcher:
        return FaultTolerantLauncher(instantiate(**arguments), on_returns, before_launch)

    with mock.patch.object(plugins, "instantiate_launcher", instantiate_patient):
        yield


class JobLost(Exception):  # noqa: N818  (what a lost job is said to have raised)
    """A job's process ended without saying how."""


def _lost(reason: str) -> JobReturn:
    returned = JobReturn(status=JobStatus.FAILED)
    returned.return_value = JobLost(reason)
    return returned


class _Ended(NamedTuple):
    """Stands in for a submitit job that the plugin waits for."""

    returned: JobReturn

    def results(self) -> list[JobReturn]:
        return [self.returned]


@contextlib.contextmanager
def _waiting_for_submitit() -> Iterator[None]:
    """Within the block, waits for all submitit jobs before it reads a result; on Ctrl-C, cancels them.

    A second sweep must not meet them in the same folder. Their pickles and their script hold the whole configuration,
    secrets included. Only the owner may enter the folder while they run. When they have ended, their pickles are
    deleted, and so are those that a killed sweep left.
    """
    from unittest import mock

    import submitit
    from submitit.core.utils import JobPaths

    map_array = submitit.AutoExecutor.map_array

    def map_and_wait(executor: Any, *arguments: Any) -> list[_Ended]:
        folder = JobPaths.get_first_id_independent_folder(executor.folder)
        folder.mkdir(parents=True, exist_ok=True)
        is_own, mode, before = folder.name == SUBMITIT, stat.S_IMODE(folder.stat().st_mode), set(folder.glob("*.pkl"))
        if is_own:  # several sweeps may share another folder
            folder.chmod(0o700)
        jobs: list[Any] = []
        try:
            jobs = map_array(executor, *arguments)
            try:
                for job in jobs:
                    with contextlib.suppress(FileNotFoundError):
                        job.paths.submitted_pickle.chmod(0o600)
                _wait(jobs, float("inf"))
            except BaseException:
                for job in jobs:
                    job.cancel(check=False)
                _wait(jobs, time.monotonic() + CANCEL_TIMEOUT_S)
                raise
            return [_Ended(_result(job)) for job in jobs]
        finally:
            written = folder.rglob("*") if is_own else _written_for(jobs)
            for path in {*written, *(set(folder.glob("*.pkl")) - before)}:
                if path.suffix == ".pkl":
                    path.unlink(missing_ok=True)
                elif path.suffix in (".sh", ".out", ".err") and not path.is_symlink():
                    redact_log(path)
            if is_own:
                folder.chmod(mode)

    with mock.patch.object(submitit.AutoExecutor, "map_array", map_and_wait):
        yield


def _written_for(jobs: Sequence[Any]) -> Iterator[Path]:
    """Yields submitit's files for these jobs, in a folder that others may use."""
    for job in jobs:
        yield from job.paths.folder.glob(f"{job.job_id.partition('_')[0]}_*")


def _wait(jobs: Sequence[Any], deadline: float) -> None:
    """Waits until each job has left its result or is gone.

    submitit's own way to ask Slurm, sacct, is not used: it needs an accounting database. Without one, it would wait
    for a lost job forever.
    """
    absences = dict.fromkeys((job.job_id for job in jobs), 0)
    waiting = list(jobs)
    while time.monotonic() < deadline:
        waiting = [job for job in waiting if not job.paths.result_pickle.exists()]
        if hasattr(jobs[0], "_process"):  # a local one
            waiting = [job for job in waiting if not job.done()]
        else:
            queued = _slurm_queue()
            for job in waiting:
                absences[job.job_id] = 0 if queued is None or job.job_id in queued else absences[job.job_id] + 1
            waiting = [job for job in waiting if absences[job.job_id] < NUM_ABSENCES]
        if not waiting:
            return
        time.sleep(POLL_S)


def _slurm_queue() -> set[str] | None:
    """Returns the ids of this user's waiting and running jobs, or None if Slurm does not answer."""
    command = ["squeue", f"--user={os.getuid()}", "--array", "--noheader", "--format=%i"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return set(done.stdout.split()) if done.returncode == 0 else None


def _result(job: Any) -> JobReturn:
    if not job.paths.result_pickle.exists():
        return _lost(f"its process ended without a result; see {_shown(job.paths.stderr)}")
    outcome, result = job._get_outcome_and_result()
    if outcome == "success":
        assert isinstance(result, JobReturn)
        return result
    return _lost(f"{result.strip().splitlines()[-1]}; see {_shown(job.paths.stderr)}")


def _shown(path: Path) -> Path:
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path


@contextlib.contextmanager
def _waiting_for_ray() -> Iterator[None]:
    """Within the block, Ray's tasks return even if they are lost; on Ctrl-C Ray itself ends them."""
    from unittest import mock

    import ray

    get = ray.get

    def get_or_lost(task: Any, **arguments: Any) -> Any:
        signals.raise_on_stop()  # Ray has set a handler of its own, which exits without a message
        try:
            return get(task, **arguments)
        except ray.exceptions.RayError as error:
            return _lost(first_line(error))

    with mock.patch.object(ray, "get", get_or_lost):
        yield


_WAITING = {"hydra_submitit_launcher": _waiting_for_submitit, "hydra_ray_launcher": _waiting_for_ray}
