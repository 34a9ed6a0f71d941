"""How long to wait before the next try, after one that failed."""

from __future__ import annotations

import random


class BackOff:
    """Waits that double up to a limit; none is quite as long as it should be.

    That keeps several boxes from knocking at one server in step.
    """

    def __init__(self, first_s: float, most_s: float) -> None:
        self._first, self._most = first_s, most_s
        self._delay = first_s

    def next(self) -> float:
        """Return how long to wait now, in seconds."""
        delay, self._delay = self._delay, min(2 * self._delay, self._most)
        return delay * random.uniform(0.5, 1.0)

    def reset(self) -> None:
        """Begin anew: the last try was a good one."""
        self._delay = self._first
