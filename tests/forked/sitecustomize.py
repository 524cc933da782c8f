"""Python imports this first, where PYTHONPATH names its folder: processes that would be spawned are forked.

vLLM's CPU build and SGLang start each of an engine's processes as a new interpreter, which imports the engine again: 12
to 20 s of a core, two or three times for each start. A forked process has what its parent imported. What runs in it is
the same; only a run that is killed while its server starts has the processes as they are.
"""

import os
from multiprocessing import context

_contexts = context._concrete_contexts  # type: ignore[attr-defined]
_contexts["spawn"] = _contexts["fork"]
# Two threads of a forked process may be bound to one core. One that spins there makes the other wait 200 ms a step.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")
