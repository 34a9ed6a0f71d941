"""Timing, power and a roofline estimate. Knows callables and graphs, never a runtime or Torch."""
