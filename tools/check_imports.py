"""Import what was just installed, and say in one line what is wrong if that fails."""

import importlib
import sys

for package in ("cv2", "av", "onnxruntime"):
    try:
        importlib.import_module(package)
    except ImportError as error:
        sys.exit(
            f"error: {package} was installed but cannot be imported ({error}); "
            "on Debian: sudo apt-get install libgl1 libglib2.0-0"
        )
