"""What the cases on the stand-in driver share; they run in a process that has loaded it."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator

import pytest


class Standin:
    """Its counters; `fail` makes a call return a code."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._library = ctypes.CDLL("libcuda.so.1")
        self._monkeypatch = monkeypatch
        self._library.standin_reset()
        self._leaked = 0

    @property
    def alive(self) -> int:
        """What was taken from the driver and not given back."""
        return int(self._library.standin_alive()) - self._leaked

    def forget(self) -> None:
        """Count no longer what a lost GPU holds, which nothing can give back."""
        self._leaked += self.alive

    def calls(self, *names: str) -> int:
        return sum(self._library.standin_calls(name.encode()) for name in names)

    def fail(self, function: str, code: int) -> None:
        """Make the next call fail."""
        call = self.calls(function) + 1
        self._monkeypatch.setenv("STANDIN_FAIL", f"{function}={code}@{call}")


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Standin]:
    standin = Standin(monkeypatch)
    standin.forget()
    yield standin
    assert standin.alive == 0, "something was not given back"
