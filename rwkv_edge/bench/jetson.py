"""The sensors of a Jetson: INA3221 rails, thermal zones, GPU clock and nvpmodel, or tegrastats.

Every reader takes the root of the file system, so that tests give it a tree of their own.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from rwkv_edge.bench.power import Meter, Reading, read_file, read_number

_WHOLE_MODULE = "VDD_IN"
_INSIDE_ANOTHER = "VDDQ_VDD2_1V8AO"  # of AGX Orin, fed by VIN_SYS_5V0, which is counted


def is_jetson(root: Path = Path("/")) -> bool:
    """Tell whether this is a Jetson."""
    compatible = read_file(root / "proc/device-tree/compatible") or ""
    return "nvidia,tegra" in compatible or (root / "etc/nv_tegra_release").exists()


def jetson_rails(root: Path) -> dict[str, tuple[Path, Path]]:
    """Return the files of voltage (mV) and current (mA) of each INA3221 channel, by label."""
    rails = {}
    for monitor in sorted((root / "sys/class/hwmon").glob("hwmon*")):
        if read_file(monitor / "name") != "ina3221":
            continue
        for channel in (1, 2, 3):
            label = read_file(monitor / f"in{channel}_label")
            current = monitor / f"curr{channel}_input"
            if label and label != "NC" and current.exists():
                rails[label] = (monitor / f"in{channel}_input", current)
    return rails


class JetsonMeter(Meter):
    """INA3221 rails, thermal zones, the GPU's devfreq and nvpmodel's files."""

    name = "INA3221 rails in sysfs"
    measures = "module"

    def __init__(self, root: Path = Path("/")) -> None:
        rails = jetson_rails(root)
        # where no sensor sees the whole module, its parts are added
        chosen = (
            [_WHOLE_MODULE] if _WHOLE_MODULE in rails else sorted(set(rails) - {_INSIDE_ANOTHER})
        )
        self._rails = [rails[label] for label in chosen]
        self.name = f"INA3221 rails in sysfs ({' + '.join(chosen)})"
        thermal = (root / "sys/class/thermal").glob("thermal_zone*")
        self._zones = [zone / "temp" for zone in sorted(thermal)]
        devfreq = root / "sys/class/devfreq"
        found = [*devfreq.glob("*.gpu"), *devfreq.glob("*.ga10b"), *devfreq.glob("gpu-gpc-0")]
        self._gpu = found[0] if found else None
        self._meminfo = root / "proc/meminfo"
        self.power_mode = _power_mode(root)
        self.clocks_locked = self._locked()

    def read(self) -> Reading:
        """See `Meter`."""
        milliwatts = [_product(*rail) for rail in self._rails]
        degrees = [t / 1e3 for t in map(read_number, self._zones) if t is not None and t > 0]
        hertz = read_number(self._gpu / "cur_freq") if self._gpu else None
        known = [value for value in milliwatts if value is not None]
        return Reading(
            watts=sum(known) / 1e6 if known and len(known) == len(milliwatts) else None,
            temperature_c=max(degrees, default=None),
            clock_mhz=hertz / 1e6 if hertz is not None else None,
            device_memory_bytes=self._memory(),
        )

    def _memory(self) -> int | None:
        """Return what is in use of the memory that CPU and GPU share."""
        text = read_file(self._meminfo) or ""
        sizes = dict(re.findall(r"^(MemTotal|MemAvailable):\s+(\d+) kB", text, re.MULTILINE))
        if len(sizes) < 2:
            return None
        return 1024 * (int(sizes["MemTotal"]) - int(sizes["MemAvailable"]))

    def _locked(self) -> bool | None:
        if self._gpu is None:
            return None
        low, high = read_number(self._gpu / "min_freq"), read_number(self._gpu / "max_freq")
        return None if low is None or high is None else low == high


class TegrastatsMeter(Meter):
    """A running tegrastats, of which the newest line counts."""

    name, measures = "tegrastats", "module"

    def __init__(self, interval_ms: int = 100) -> None:
        self._process = subprocess.Popen(
            ["tegrastats", "--interval", str(interval_ms)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.power_mode = _power_mode(Path("/"))

    def read(self) -> Reading:
        """See `Meter`; waits for the next line."""
        assert self._process.stdout is not None
        return parse_tegrastats(self._process.stdout.readline())

    def close(self) -> None:
        """End tegrastats."""
        self._process.terminate()
        self._process.wait()


def parse_tegrastats(line: str) -> Reading:
    """Read one line, as 'RAM 2410/7620MB GR3D_FREQ 12%@[611] gpu@45.2C VDD_IN 5120mW/5000mW'."""
    rails = {name: int(value) for name, value in re.findall(r"(V(?:DD|IN)\w+) (\d+)mW", line)}
    parts = [v for name, v in rails.items() if name != _INSIDE_ANOTHER]
    milliwatts = rails.get(_WHOLE_MODULE, sum(parts) if parts else None)
    # zones that are switched off say -256C
    degrees = [float(value) for value in re.findall(r"@(-?[\d.]+)C\b", line)]
    clock = re.search(r"GR3D_FREQ \d+%@\[?(\d+)", line)
    memory = re.search(r"\bRAM (\d+)/\d+MB", line)
    return Reading(
        watts=milliwatts / 1e3 if milliwatts is not None else None,
        temperature_c=max((d for d in degrees if d > 0), default=None),
        clock_mhz=float(clock.group(1)) if clock else None,
        device_memory_bytes=int(memory.group(1)) << 20 if memory else None,
    )


def _power_mode(root: Path) -> str | None:
    """Return nvpmodel's mode: number and, where its configuration names it, name."""
    status = re.search(r"pmode:0*(\d+)", read_file(root / "var/lib/nvpmodel/status") or "")
    if status is None:
        return None
    pattern = rf"POWER_MODEL\s+ID={status.group(1)}\s+NAME=(\w+)"
    named = re.search(pattern, read_file(root / "etc/nvpmodel.conf") or "")
    return f"{status.group(1)} ({named.group(1)})" if named else status.group(1)


def _product(voltage: Path, current: Path) -> float | None:
    a, b = read_number(voltage), read_number(current)
    return None if a is None or b is None else a * b
