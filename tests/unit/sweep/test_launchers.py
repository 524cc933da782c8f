"""What is made of the results of launchers that run jobs elsewhere."""

import pickle
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher

from specdec_bench.errors import LauncherError
from specdec_bench.sweep import launchers
from specdec_bench.sweep.job import Job, JobFailed
from specdec_bench.sweep.launchers import FaultTolerantLauncher


class RefusingLauncher(Launcher):
    def setup(self, **_: Any) -> None: ...

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        raise RuntimeError("sbatch: error:\n  invalid partition")


def test_a_launcher_that_cannot_run_its_jobs_says_so_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(RefusingLauncher, "__module__", "hydra_plugins.some_launcher")
    words = "RefusingLauncher: RuntimeError: sbatch: error: invalid partition"
    with pytest.raises(LauncherError, match=f"^{words}$"):
        FaultTolerantLauncher(RefusingLauncher(), lambda _: None).launch([["seed=1"]], 0)


def test_what_crosses_processes_can_be_pickled() -> None:
    failed = pickle.loads(pickle.dumps(JobFailed("no request finished", 1)))
    assert (str(failed), failed.exit_status) == ("no request finished", 1)
    job = Job(largest_concurrency=4, command=("run.py",), working_dir="/", runs_here=False, returns_objective=True)
    assert pickle.loads(pickle.dumps(job)) == job


def job(folder: Path, job_id: str) -> SimpleNamespace:
    return SimpleNamespace(job_id=job_id, paths=SimpleNamespace(result_pickle=folder / job_id, stderr=folder / "err"))


def test_a_job_is_waited_for_until_it_has_a_result_or_the_queue_lacks_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    done, lost, late = job(tmp_path, "7_0"), job(tmp_path, "7_1"), job(tmp_path, "7_2")
    done.paths.result_pickle.touch()
    absent = launchers.NUM_ABSENCES
    # Slurm gives no answer once, then still lists the second job, then lists neither; the third one's result is late.
    answers: list[set[str] | None] = [None, {"7_1", "7_2"}, *[set[str]()] * absent]

    def queue() -> set[str] | None:
        if len(answers) == 2:
            late.paths.result_pickle.touch()
        return answers.pop(0)

    monkeypatch.setattr(launchers, "POLL_S", 0.0)
    monkeypatch.setattr(launchers, "_slurm_queue", queue)
    launchers._wait([done, lost, late], float("inf"))
    assert answers == []
    returned = launchers._result(lost)
    assert str(returned._return_value) == f"its process ended without a result; see {tmp_path / 'err'}"
