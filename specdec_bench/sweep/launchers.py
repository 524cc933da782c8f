"""Hydra's launchers that run jobs in other processes and on other hosts.

They wait for their jobs one after another and give up at the first that died without a result. Here a lost job is
a failed one, and the others are waited for.
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
"""From the overrides of each job and the number of the first."""

POLL_S = 1.0
"""How often the state of submitted jobs is looked up."""
NUM_ABSENCES = 5
"""How often in a row Slurm's queue must lack a job that has left no result before it counts as lost."""
SUBMITIT = ".submitit"
"""Hydra's name for submitit's folder below a sweep's."""
CANCEL_TIMEOUT_S = 60.0
"""How long cancelled jobs may take to write how they ended."""


class PatientLauncher(Launcher):
    """A launcher in whose results a lost job is a failed one."""

    def __init__(self, launcher: Launcher, on_returns: OnReturns, before_launch: BeforeLaunch | None = None) -> None:
        """Takes a launcher that has been set up, what is told its results, and what may refuse the jobs before."""
        self._launcher = launcher
        self._on_returns = on_returns
        self._before_launch = before_launch

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Does nothing: the launcher inside has been set up."""

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Returns what became of each job, once all have ended.

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
        # sbatch's refusal, a joblib worker that was killed: the launchers' errors have no common base.
        except Exception as error:
            if plugin == "core_plugins":
                raise
            words = " ".join(str(error).split()) or "no message"
            raise LauncherError(f"{type(self._launcher).__name__}: {type(error).__name__}: {words}") from error
        self._on_returns(returns)
        return returns


@contextlib.contextmanager
def patiently(on_returns: OnReturns, before_launch: BeforeLaunch | None = None) -> Iterator[None]:
    """Has Hydra make only patient launchers within the block; a sweeper makes its own."""
    from unittest import mock  # which imports asyncio: not for a refused configuration

    plugins = Plugins.instance()
    instantiate = plugins.instantiate_launcher

    def instantiate_patient(**arguments: Any) -> Launcher:
        return PatientLauncher(instantiate(**arguments), on_returns, before_launch)

    with mock.patch.object(plugins, "instantiate_launcher", instantiate_patient):
        yield


class JobLost(Exception):  # noqa: N818  (what a lost job is said to have raised)
    """A job's process ended without telling how."""


def _lost(reason: str) -> JobReturn:
    returned = JobReturn(status=JobStatus.FAILED)
    returned.return_value = JobLost(reason)
    return returned


class _Ended(NamedTuple):
    """What the plugin takes for a job of submitit's that it has to wait for."""

    returned: JobReturn

    def results(self) -> list[JobReturn]:
        return [self.returned]


@contextlib.contextmanager
def _waiting_for_submitit() -> Iterator[None]:
    """Within the block, submitit's jobs all end before the first is looked at; on Ctrl-C they are cancelled.

    A second sweep must not meet them in the same folder. Their pickles and their script hold the whole configuration,
    secrets included: only their owner may enter the folder meanwhile, and when the jobs have ended, the pickles go, and
    those that a sweep left which was killed.
    """
    from unittest import mock

    import submitit
    from submitit.core.utils import JobPaths

    map_array = submitit.AutoExecutor.map_array

    def map_and_wait(executor: Any, *arguments: Any) -> list[_Ended]:
        folder = JobPaths.get_first_id_independent_folder(executor.folder)
        folder.mkdir(parents=True, exist_ok=True)
        is_own, mode, before = folder.name == SUBMITIT, stat.S_IMODE(folder.stat().st_mode), set(folder.glob("*.pkl"))
        if is_own:  # another one may be shared by several sweeps
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
    """Yields the files of submitit's that belong to these jobs, in a folder that others may use."""
    for job in jobs:
        yield from job.paths.folder.glob(f"{job.job_id.partition('_')[0]}_*")


def _wait(jobs: Sequence[Any], deadline: float) -> None:
    """Waits until each job has left its result or is gone.

    Slurm is not asked by submitit's own way, sacct: it needs an accounting database, and without one a lost job
    would be waited for forever.
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
    """Returns the ids of this user's jobs that wait or run; None where Slurm gives no answer."""
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
        signals.raise_on_stop()  # Ray has set a handler of its own, which exits without a word
        try:
            return get(task, **arguments)
        except ray.exceptions.RayError as error:
            return _lost(first_line(error))

    with mock.patch.object(ray, "get", get_or_lost):
        yield


_WAITING = {"hydra_submitit_launcher": _waiting_for_submitit, "hydra_ray_launcher": _waiting_for_ray}
