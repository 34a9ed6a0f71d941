"""A box for one item between two threads: the newest wins, and what it replaces is counted."""

from __future__ import annotations

import threading
import time
from typing import Generic, TypeVar

T = TypeVar("T")


class Mailbox(Generic[T]):
    """Holds at most one item. Every wait also ends when the box is closed."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._item: T | None = None
        self._closed = False
        self.dropped = 0
        """Items that were replaced before anyone took them."""

    def put(self, item: T) -> None:
        """Leave an item, in place of one that nobody took."""
        with self._changed:
            self.dropped += self._item is not None
            self._item = item
            self._changed.notify()

    def get(self, timeout_s: float | None = None) -> T | None:
        """Take the item, waiting at most `timeout_s`. None: there was none, or it is closed."""
        end = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while self._item is None and not self._closed:
                left = None if end is None else end - time.monotonic()
                if left is not None and left <= 0:
                    return None
                self._changed.wait(left)
            item, self._item = self._item, None
            return None if self._closed else item

    def close(self) -> None:
        """Wake everyone who waits; nothing is delivered from now on."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
