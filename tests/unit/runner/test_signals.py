"""What stop signals do, in a process of their own."""

import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable

import pytest

STOP = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR2")
START = """\
import os, signal, subprocess, sys, time
from specdec_bench.runner import signals

def send(name):
    signals._Received.last_s = float("-inf")  # as if the one before had been long ago
    os.kill(os.getpid(), getattr(signal, name))
    time.sleep(0.01)

"""


def run(code: str, before: Callable[[], object] | None = None) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", START + textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        text=True,
        timeout=60,
        preexec_fn=before,
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("name", STOP)
def test_a_stop_signal_raises(name: str) -> None:
    code = f"""
        signals.raise_on_stop()
        try:
            send("{name}")
        except KeyboardInterrupt:
            print("raised")
    """
    assert run(code) == (0, "raised\n")


@pytest.mark.parametrize("name", STOP)
def test_a_block_counts_it_and_then_it_raises_again(name: str) -> None:
    code = f"""
        signals.raise_on_stop()
        with signals.StopSignals() as stops:
            send("{name}")
            print(stops.count)
        try:
            send("{name}")
        except KeyboardInterrupt:
            print(signals.times_stopped())
    """
    assert run(code) == (0, "1\n2\n")


def test_two_in_quick_succession_are_one() -> None:
    code = """
        with signals.StopSignals() as stops:
            send("SIGTERM")
            os.kill(os.getpid(), signal.SIGHUP)
            time.sleep(0.01)
            print(stops.count)
    """
    assert run(code) == (0, "1\n")


def test_the_third_ends_the_process_at_once() -> None:
    code = """
        with signals.StopSignals() as stops:
            for name in ("SIGINT", "SIGTERM", "SIGHUP"):
                print(stops.count, flush=True)
                send(name)
            print("still here")
    """
    assert run(code) == (130, "0\n1\n2\n")


def test_one_that_a_library_swallowed_is_not_forgotten() -> None:
    code = """
        signals.raise_on_stop()
        try:
            send("SIGINT")
        except BaseException:
            pass
        with signals.StopSignals() as stops:
            print(stops.count)
    """
    assert run(code) == (0, "1\n")


def test_what_was_ignored_when_the_process_began_stays_ignored() -> None:
    """As SIGHUP is under nohup."""
    code = """
        signals.raise_on_stop()
        send("SIGHUP")
        with signals.StopSignals() as stops:
            send("SIGHUP")
            print(stops.count)
    """
    assert run(code, before=lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)) == (0, "0\n")


def test_a_process_that_is_started_while_they_are_held_back_gets_them_later() -> None:
    child = """
        signals.raise_on_stop()
        print("starting", flush=True)
        input()
        try:
            signals.let_in()
        except KeyboardInterrupt:
            print("told")
    """
    code = f"""
        with signals.held_back():
            code = {START + textwrap.dedent(child)!r}
            child = subprocess.Popen([sys.executable, "-c", code], text=True, stdin=-1, stdout=-1)
        child.stdout.readline()
        child.terminate()
        print(child.communicate("go on")[0].strip(), child.returncode)
    """
    assert run(code) == (0, "told 0\n")


@pytest.mark.parametrize("name", STOP)
def test_the_program_ends_with_one_line_while_it_is_imported(name: str) -> None:
    """And so it does where the library that was being imported makes an error of its own of it."""
    for raised in ("", "except KeyboardInterrupt: raise ImportError('cannot import')"):
        code = f"""
            class Finder:
                def find_spec(self, module, path=None, target=None):
                    if module == "hydra":
                        try: send("{name}")
                        {raised or "finally: pass"}

            sys.meta_path.insert(0, Finder())
            sys.stderr = sys.stdout
            from specdec_bench.__main__ import main
            main(["--version"])
        """
        assert run(code) == (130, "error: interrupted\n")
