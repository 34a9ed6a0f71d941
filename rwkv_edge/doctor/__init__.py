"""What is on this machine, what of it works, and how to mend what does not.

Imports no more than Python's own library: it has to run where OpenCV or TensorRT cannot be loaded,
because that is what it is there to say.
"""

from rwkv_edge.doctor.finding import Check, Finding, Section, examine

__all__ = ["Check", "Finding", "Section", "examine"]
