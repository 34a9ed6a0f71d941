"""Which numbers an option takes, as callbacks for `typer.Option`.

The parser's own `min` and `max` would let NaN through, and an open end infinity.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import typer

from rwkv_edge.errors import UsageError

Check = Callable[[typer.CallbackParam, float | None], float | None]
"""Returns the value as it is, None for an option that was not given.

Raises:
    UsageError: the value is out of range, infinite, or not a number.
"""
_LARGEST, _LARGEST_INTEGER = 1e15, 2**31 - 1
"""At an open end: more than that overflows somewhere in the libraries behind."""


def between(low: float, high: float) -> Check:
    """Take what lies from `low` to `high`, both included."""
    return _check(lambda value: low <= value <= high, f"lie between {low:.10g} and {high:.10g}")


def above(low: float, at_most: float | None = None) -> Check:
    """Take what is greater than `low`, up to and with `at_most`."""
    if at_most is None:
        return _check(lambda value: value > low, f"be above {low:.10g}", open_end=True)
    words = f"be above {low:.10g}, at most {at_most:.10g}"
    return _check(lambda value: low < value <= at_most, words)


def at_least(low: float, below: float | None = None) -> Check:
    """Take `low` and what is greater, but less than `below`."""
    if below is None:
        return _check(lambda value: value >= low, f"be {low:.10g} or more", open_end=True)
    return _check(lambda value: low <= value < below, f"be {low:.10g} or more, below {below:.10g}")


def _check(holds: Callable[[float], bool], words: str, *, open_end: bool = False) -> Check:
    def check(option: typer.CallbackParam, value: float | None) -> float | None:
        largest = _LARGEST_INTEGER if isinstance(value, int) else _LARGEST
        most = largest if open_end else math.inf
        if value is None or (holds(value) and value <= most):
            return value
        what = f"be at most {most:.10g}" if value > most else words
        if value in (math.inf, -math.inf):
            what = "be a finite number"
        # an integer may be larger than any float
        shown = value if isinstance(value, int) else f"{value:.15g}"
        raise UsageError(f"{option.opts[0]} {shown}: it must {what}")

    return check
