"""What only a Jetson has: JetPack, the power mode, clocks that can be locked.

Every function reads files below `root`, never a command, so that it needs no rights and a test can
hand it a tree.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from rwkv_edge.doctor.finding import Finding

_OLDEST_L4T = (36, 4)
"""JetPack 6.1, the first with TensorRT 10.3, which the plugin needs."""

_GPUS = ("gpu", "ga10b")
"""What the GPU of an Orin is called in /sys/class/devfreq, by JetPack."""


def read(path: Path) -> str:
    """Return the text of a file; empty where there is none or it cannot be read just now."""
    try:
        return path.read_bytes().decode(errors="replace").strip("\0\n ")
    except OSError:
        return ""


def is_jetson(root: Path) -> bool:
    """Tell whether this is one, inside a container too."""
    release = root / "etc/nv_tegra_release"
    return release.is_file() or "tegra" in read(root / "proc/device-tree/compatible")


def l4t_version(root: Path) -> tuple[int, ...] | None:
    """Return the release of Jetson Linux, as (36, 4, 3); None where it does not say."""
    text = read(root / "etc/nv_tegra_release")
    found = re.search(r"R(\d+) \(release\), REVISION: (\d+)(?:\.(\d+))?", text)
    return tuple(int(part) for part in found.groups("0")) if found else None


def jetpack(root: Path) -> Iterator[Finding]:
    """Look at Jetson Linux and the packages of JetPack; silent on other machines."""
    if not is_jetson(root):
        return
    version = l4t_version(root)
    if version is None:
        reason = "this Jetson does not say which Jetson Linux it runs (/etc/nv_tegra_release)"
        mend = "in a container: mount that file, as --runtime nvidia does"
        yield Finding("Jetson Linux", "warning", reason, mend)
    elif version < _OLDEST_L4T:
        reason = (
            f"{_dotted(version)} is older than JetPack 6.1; its TensorRT cannot load the plugin"
        )
        yield Finding("Jetson Linux", "problem", reason, "install JetPack 6.1 or later")
    else:
        yield Finding("Jetson Linux", "ok", _dotted(version))
    package = _package_version(root, "nvidia-jetpack")
    if package:
        yield Finding("JetPack", "ok", package)
    else:
        reason = "the package nvidia-jetpack is not installed; CUDA and TensorRT may be missing"
        yield Finding("JetPack", "warning", reason, "sudo apt install nvidia-jetpack")


def power(root: Path) -> Iterator[Finding]:
    """Look at the power mode and at what sets the clocks."""
    if is_jetson(root):
        yield _power_mode(root)
        yield _clocks(root)
    governor = read(root / "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
    if governor:
        yield Finding("CPU governor", "ok", governor)


def _power_mode(root: Path) -> Finding:
    found = re.search(r"pmode:(\d+)", read(root / "var/lib/nvpmodel/status"))
    if found is None:
        return Finding("Power mode", "ok", "not known (nvpmodel left no note)", "sudo nvpmodel -q")
    number = int(found[1])
    models = re.findall(
        r"^<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+)", read(root / "etc/nvpmodel.conf"), re.MULTILINE
    )
    names = {int(index): name for index, name in models}
    name = names.get(number, f"mode {number}")
    fastest = [index for index, title in names.items() if title.startswith("MAXN")]
    if not fastest or number in fastest:
        return Finding("Power mode", "ok", name)
    best = max(fastest, key=lambda index: len(names[index]))  # MAXN_SUPER beside MAXN
    reason = f"{name}, of which {names[best]} is faster"
    return Finding("Power mode", "warning", reason, f"sudo nvpmodel -m {best}")


def _clocks(root: Path) -> Finding:
    """jetson_clocks makes the least frequency the largest, of the GPU as of the CPU."""
    cpu = root / "sys/devices/system/cpu/cpu0/cpufreq"
    places = [(cpu / "scaling_min_freq", cpu / "scaling_max_freq")]
    for device in sorted((root / "sys/class/devfreq").glob("*")):
        if device.name.rpartition(".")[2] in _GPUS:
            places.append((device / "min_freq", device / "max_freq"))
    known = [pair for pair in ((read(low), read(high)) for low, high in places) if all(pair)]
    if not known:
        return Finding("Clocks", "ok", "not known: the kernel shows no frequencies here")
    if all(low == high for low, high in known):
        return Finding("Clocks", "ok", "locked at their highest (jetson_clocks)")
    reason = "they follow the load, so timings vary and the first frames are slow"
    return Finding("Clocks", "warning", reason, "sudo jetson_clocks")


def _package_version(root: Path, name: str) -> str:
    text = read(root / "var/lib/dpkg/status")
    found = re.search(rf"^Package: {name}\n((?:.+\n?)*)", text, re.MULTILINE)
    stanza = found[1] if found else ""
    version = re.search(r"^Version: (\S+)", stanza, re.MULTILINE)
    return version[1] if version and "install ok installed" in stanza else ""


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))
