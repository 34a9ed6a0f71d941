"""What is on this machine, what of it works, and how to mend what does not.

What a check needs, it imports itself: the page has to come where OpenCV or TensorRT cannot be
loaded, because that is what it is there to say.
"""

from rwkv_edge.doctor.finding import Check, Finding, Section, examine

__all__ = ["Check", "Finding", "Section", "examine"]
