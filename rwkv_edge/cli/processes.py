"""How a process that torchrun started ends: one tells what is wrong, and none waits for another."""

from __future__ import annotations

import os
import sys
import time
from datetime import timedelta

_LAST_WORD = 10.0
"""Seconds in which the first to fail speaks and ends, and torchrun with it ends the others."""


def started_by_torchrun() -> bool:
    """Return whether this is one of the processes of a command."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def is_first_to_fail() -> bool:
    """Return whether no other process failed before; later ones failed alike, or therefore.

    torchrun's own store counts: it outlives the processes.
    """
    if not started_by_torchrun():
        return True
    from torch.distributed import TCPStore  # type: ignore[attr-defined]

    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    try:
        address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store = TCPStore(address, port, is_master=False, timeout=timedelta(seconds=_LAST_WORD))
        if store.add(f"rwkv-edge/failures/{attempt}", 1) == 1:
            return True
    except (RuntimeError, KeyError, ValueError):  # torchrun itself is gone
        return True
    time.sleep(_LAST_WORD)
    return False


def leave(code: int) -> None:
    """End the process at once.

    Torch's process group waits in its destructor for the others, and may wait for ever: for those
    that failed, or for its own thread that wants the interpreter's lock (seen with Torch 2.13).
    """
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
