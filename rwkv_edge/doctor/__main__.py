"""`python -m rwkv_edge.doctor MODULE FUNCTION PATH...`: one check, in a process of its own.

Prints a JSON line for each finding as soon as there is one. What libraries print goes to standard
error, whoever writes it.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from dataclasses import asdict
from pathlib import Path


def main(module: str, function: str, *paths: str) -> None:
    """Run the check."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        for finding in getattr(importlib.import_module(module), function)(*map(Path, paths)):
            print(json.dumps(asdict(finding)), file=answers, flush=True)


main(*sys.argv[1:])
