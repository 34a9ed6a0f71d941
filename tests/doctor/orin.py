"""The files of an Orin Nano Super with JetPack 6.2, as far as the doctor reads them."""

from __future__ import annotations

from pathlib import Path

FILES = {
    "etc/nv_tegra_release": (
        "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64, "
        "DATE: Wed Jan  8 01:49:37 UTC 2025\n# KERNEL_VARIANT: oot\n"
    ),
    "etc/os-release": 'NAME="Ubuntu"\nPRETTY_NAME="Ubuntu 22.04.5 LTS"\n',
    "etc/nvpmodel.conf": (
        "# comment\n< POWER_MODEL ID=0 NAME=15W >\nCPU_ONLINE CORE_0 1\n"
        "< POWER_MODEL ID=1 NAME=25W >\n< POWER_MODEL ID=2 NAME=MAXN_SUPER >\n"
        "< PM_CONFIG DEFAULT=1 >\n"
    ),
    "proc/device-tree/model": "NVIDIA Jetson Orin Nano Engineering Reference Developer Kit Super\0",
    "proc/device-tree/compatible": "nvidia,p3768-0000+p3767-0005-super\0nvidia,tegra234\0",
    "proc/meminfo": "MemTotal:        7802416 kB\nMemFree: 1 kB\nMemAvailable:    5242880 kB\n",
    "var/lib/nvpmodel/status": "pmode:0002 fmode:quiet",
    "var/lib/dpkg/status": (
        "Package: nvidia-jetpack-dev\nStatus: install ok installed\nVersion: 9\n\n"
        "Package: nvidia-jetpack\nStatus: install ok installed\nPriority: standard\n"
        "Version: 6.2+b77\nDescription: NVIDIA Jetpack\n more\n\nPackage: zlib\nVersion: 1\n"
    ),
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "schedutil\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_min_freq": "1728000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_max_freq": "1728000\n",
    "sys/class/devfreq/17000000.gpu/min_freq": "1020000000\n",
    "sys/class/devfreq/17000000.gpu/max_freq": "1020000000\n",
    "sys/class/devfreq/154c0000.nvenc/min_freq": "1\n",
    "sys/class/devfreq/154c0000.nvenc/max_freq": "2\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/class/thermal/thermal_zone0/temp": "52500\n",
    "sys/class/thermal/thermal_zone0/trip_point_0_type": "passive\n",
    "sys/class/thermal/thermal_zone0/trip_point_0_temp": "99000\n",
    "sys/class/thermal/thermal_zone1/type": "tj-thermal\n",
    "sys/class/thermal/thermal_zone1/temp": "54100\n",
    "sys/class/thermal/thermal_zone1/trip_point_0_type": "active\n",
    "sys/class/thermal/thermal_zone1/trip_point_0_temp": "51000\n",
    "sys/class/thermal/thermal_zone2/type": "cv0-thermal\n",
    "sys/class/thermal/thermal_zone2/temp": "",  # asleep
    "sys/class/video4linux/video0/name": "vi-output, imx219 9-0010\n",
    "dev/video0": "",
}


def write_orin(root: Path, **changes: str | None) -> Path:
    """Write the tree; `changes` by the last two parts of a path, joined by '__'; None: no file."""
    for name, text in FILES.items():
        key = "__".join(Path(name).parts[-2:]).replace(".", "_")
        text = changes.pop(key, text)
        if text is None:
            continue
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    assert not changes, f"no such file: {list(changes)}"
    return root
