"""A process that ends with the one that started it."""

from __future__ import annotations

import ctypes
import os
import signal
import sys

VARIABLE = "VLA_PRUNER_END_WITH"
"""Environment variable with the process id of the launch system that a node must not outlive."""

_PR_SET_PDEATHSIG = 1


def signal_on_end_of_parent() -> None:
    """Let Linux send this process SIGTERM when the thread that started it ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def end_with_launch() -> None:
    """Stop with the launch system that VARIABLE names, though it be killed; call it with handlers
    of SIGTERM in place. Without the variable, a node outlives its parent, as under nohup."""
    launch = os.environ.get(VARIABLE, "")
    if not launch.isdigit():
        return
    signal_on_end_of_parent()
    try:
        os.kill(int(launch), 0)
    except ProcessLookupError:  # it was gone before the call
        os.kill(os.getpid(), signal.SIGTERM)
    except PermissionError:
        pass
