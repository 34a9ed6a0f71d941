"""What brings pictures in and out: OpenCV, PyAV and cameras."""

from __future__ import annotations

import grp
import os
import re
from collections.abc import Iterator
from importlib.metadata import distributions
from pathlib import Path

from rwkv_edge.doctor.finding import Finding
from rwkv_edge.doctor.jetson import is_jetson, read


def opencv(root: Path) -> Iterator[Finding]:
    """Import OpenCV and read how it was built."""
    from_pip = sorted(
        {d.metadata["Name"] for d in distributions() if _is_opencv(d.metadata["Name"] or "")}
    )
    try:
        import cv2
    except ImportError as error:
        mend = "sudo apt install libgl1 libglib2.0-0, or pip install opencv-python-headless instead"
        yield Finding("OpenCV", "problem", f"cannot be imported: {error}", mend)
        return
    text = cv2.getBuildInformation()
    windows, gstreamer = _built(text, "GUI"), _built(text, "GStreamer").startswith("YES")
    reason = (
        f"{cv2.__version__} from {', '.join(from_pip) or Path(cv2.__file__).parent}, "
        f"{f'windows by {windows}' if windows not in ('', 'NONE') else 'no windows (headless)'}, "
        f"{'with' if gstreamer else 'without'} GStreamer"
    )
    if len(from_pip) > 1:
        mend = f"pip uninstall {' '.join(from_pip)}, then install one of them"
        yield Finding("OpenCV", "warning", f"{reason}; two overwrite each other", mend)
    elif is_jetson(root) and from_pip and not gstreamer:
        reason += "; it hides JetPack's, which has it, so CSI cameras cannot be opened"
        mend = f"pip uninstall {from_pip[0]}, in a venv made with --system-site-packages"
        yield Finding("OpenCV", "warning", reason, mend)
    else:
        yield Finding("OpenCV", "ok", reason)


def pyav() -> Iterator[Finding]:
    """Import PyAV and look for an encoder that writes the overlay video."""
    import av

    from rwkv_edge.video.writer import ENCODERS

    found = [name for name in ENCODERS if name in av.codecs_available]
    if found:
        yield Finding("PyAV", "ok", f"{av.__version__}, encodes H.264 by {', '.join(found)}")
    else:
        reason = f"{av.__version__} has none of {', '.join(ENCODERS)}: no overlay video"
        mend = "pip install --force-reinstall --only-binary av av"
        yield Finding("PyAV", "problem", reason, mend)


def cameras(root: Path) -> Iterator[Finding]:
    """Open each video device as a program would, and close it again."""
    devices = sorted((root / "dev").glob("video*"), key=lambda path: (len(path.name), path.name))
    if not devices:
        yield Finding("Cameras", "ok", "none (no /dev/video*)")
    for device in devices:
        name = read(root / "sys/class/video4linux" / device.name / "name") or "unnamed"
        try:
            os.close(os.open(device, os.O_RDWR | os.O_NONBLOCK))
        except PermissionError:
            group = _group(device)
            reason = f"{name}; you may not open it, its group is {group}"
            mend = f"sudo usermod -aG {group} $USER, then log in again"
            yield Finding(device.name, "warning", reason, mend)
        except OSError as error:
            reason = f"{name}; cannot be opened: {error.strerror}"
            yield Finding(device.name, "warning", reason, "close what uses it, or plug it in again")
        else:
            yield Finding(device.name, "ok", f"{name}, can be opened")


def _is_opencv(name: str) -> bool:
    return name.lower().replace("_", "-").startswith(("opencv-python", "opencv-contrib-python"))


def _built(text: str, name: str) -> str:
    found = re.search(rf"^\s+{name}:\s+(\S+)", text, re.MULTILINE)
    return found[1] if found else ""


def _group(device: Path) -> str:
    number = device.stat().st_gid
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:  # as in containers
        return str(number)
