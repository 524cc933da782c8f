"""Ends Python code that takes too long, in any thread."""

import contextlib
import ctypes
import threading
from collections.abc import Iterator


class TimeLimitExceeded(BaseException):
    """Raised within the block. Not an `Exception`, so that code in the block does not catch it."""


@contextlib.contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises TimeLimitExceeded in the calling thread if the block takes longer.

    It takes effect between two steps of Python code, so it cannot end a single call into C. A signal would reach only
    the main thread, and conversations are encoded in another one.
    """
    thread_id = ctypes.c_ulong(threading.get_ident())
    lock, is_over, has_struck = threading.Lock(), False, False

    def strike() -> None:
        nonlocal has_struck
        with lock:
            if not is_over:
                has_struck = True
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread_id, ctypes.py_object(TimeLimitExceeded))

    timer = threading.Timer(seconds, strike)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        with lock:
            is_over = True
        if has_struck:  # if the block ended before the exception came, it must not come later
            ctypes.pythonapi.PyThreadState_SetAsyncExc(thread_id, None)
