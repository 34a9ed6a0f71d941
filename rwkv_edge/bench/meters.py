"""The meter of this machine: a Jetson's, an NVIDIA card's (NVML or nvidia-smi), or x86's RAPL."""

from __future__ import annotations

import importlib
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rwkv_edge.bench.jetson import JetsonMeter, TegrastatsMeter, is_jetson, jetson_rails
from rwkv_edge.bench.power import Meter, Reading, read_file, read_number

_COMMAND_SECONDS = 10
CARD = "graphics card"


@dataclass(frozen=True)
class Found:
    """The meter of this machine, or why there is none."""

    meter: Meter | None
    reason: str = ""


def find_meter(root: Path = Path("/")) -> Found:
    """Return the best meter that works here: Jetson, NVIDIA card, RAPL, in this order."""
    if is_jetson(root):
        if jetson_rails(root):
            return Found(JetsonMeter(root))
        if root == Path("/") and shutil.which("tegrastats"):
            return Found(TegrastatsMeter())
        return Found(None, "no INA3221 rails in sysfs and no tegrastats")
    if root == Path("/"):
        for kind in (NvmlMeter, NvidiaSmiMeter):
            try:
                return Found(kind())
            except (ImportError, OSError, RuntimeError, ValueError, subprocess.SubprocessError):
                continue
    zones = sorted((root / "sys/class/powercap").glob("intel-rapl:*/energy_uj"))
    if not zones:
        return Found(None, "no power sensor: no Jetson, no NVIDIA GPU, no RAPL")
    if not any(read_file(path) for path in zones):
        return Found(None, f"{zones[0]} is readable by root alone")
    return Found(RaplMeter(root))


def clocks_locked(meter: Meter | None, root: Path = Path("/")) -> bool | None:
    """Tell whether clocks are held: the meter's word, else the processor's; None: unknown."""
    if meter is not None and meter.clocks_locked is not None:
        return meter.clocks_locked
    held = [
        (read_number(cpu / "scaling_min_freq"), read_number(cpu / "scaling_max_freq"))
        for cpu in (root / "sys/devices/system/cpu").glob("cpu[0-9]*/cpufreq")
    ]
    if not held or any(None in pair for pair in held):
        return None
    return all(low == high for low, high in held)


class NvmlMeter(Meter):
    """The first NVIDIA card through nvidia-ml-py."""

    name, measures = "NVML", CARD

    def __init__(self) -> None:
        nvml = self._nvml = importlib.import_module("pynvml")  # of nvidia-ml-py
        try:
            nvml.nvmlInit()
            self._card = nvml.nvmlDeviceGetHandleByIndex(0)
        except nvml.NVMLError as error:
            raise RuntimeError(str(error)) from error

    def read(self) -> Reading:
        """See `Meter`."""
        nvml = self._nvml
        milliwatts = self._ask("nvmlDeviceGetPowerUsage")
        millijoules = self._ask("nvmlDeviceGetTotalEnergyConsumption")
        memory = self._ask("nvmlDeviceGetMemoryInfo")
        return Reading(
            watts=milliwatts / 1e3 if milliwatts is not None else None,
            joules=millijoules / 1e3 if millijoules is not None else None,
            temperature_c=self._ask("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
            clock_mhz=self._ask("nvmlDeviceGetClockInfo", nvml.NVML_CLOCK_SM),
            device_memory_bytes=memory.used if memory is not None else None,
        )

    def close(self) -> None:
        """Shut NVML down."""
        self._nvml.nvmlShutdown()

    def _ask(self, question: str, *arguments: Any) -> Any:
        try:
            return getattr(self._nvml, question)(self._card, *arguments)
        except self._nvml.NVMLError:
            return None


class NvidiaSmiMeter(Meter):
    """The first NVIDIA card through nvidia-smi, a process a reading."""

    name, measures = "nvidia-smi", CARD

    def __init__(self) -> None:
        self._ask()  # raises where there is no card

    def read(self) -> Reading:
        """See `Meter`."""
        try:
            return self._ask()
        except (OSError, ValueError, subprocess.SubprocessError):
            return Reading()

    def _ask(self) -> Reading:
        fields = "power.draw,temperature.gpu,clocks.sm,memory.used"
        command = ["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader,nounits", "--id=0"]
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_COMMAND_SECONDS, check=True
        )
        return parse_nvidia_smi(done.stdout)


def parse_nvidia_smi(line: str) -> Reading:
    """Read 'watts, degrees, MHz, MiB'; '[N/A]' and the like are None."""
    parts = [part.strip() for part in line.strip().split(",")]
    if len(parts) != 4:
        raise ValueError(f"nvidia-smi said: {line!r}")
    values = [float(part) if re.fullmatch(r"[\d.]+", part) else None for part in parts]
    watts, degrees, clock, memory = values
    return Reading(watts, None, degrees, clock, None if memory is None else int(memory) << 20)


@dataclass
class _Counter:
    """A RAPL counter of microjoules that starts anew when it is full."""

    path: Path
    size: float
    last: float
    total: float = 0.0

    def read(self) -> float | None:
        now = read_number(self.path)
        if now is None:
            return None
        self.total += now - self.last + (self.size if now < self.last else 0)
        self.last = now
        return self.total / 1e6


class RaplMeter(Meter):
    """The packages of an x86 processor."""

    name, measures = "RAPL", "processor package"

    def __init__(self, root: Path = Path("/")) -> None:
        self._counters = []
        for zone in sorted((root / "sys/class/powercap").glob("intel-rapl:*")):
            start = read_number(zone / "energy_uj")
            if start is not None and (read_file(zone / "name") or "").startswith("package"):
                size = read_number(zone / "max_energy_range_uj") or 0.0
                self._counters.append(_Counter(zone / "energy_uj", size, start))
        thermal = (root / "sys/class/thermal").glob("thermal_zone*")
        self._zones = [
            zone / "temp" for zone in sorted(thermal) if read_file(zone / "type") == "x86_pkg_temp"
        ]

    def read(self) -> Reading:
        """See `Meter`."""
        joules = [counter.read() for counter in self._counters]
        known = [value for value in joules if value is not None]
        degrees = [t / 1e3 for t in map(read_number, self._zones) if t is not None]
        return Reading(
            joules=sum(known) if known and len(known) == len(joules) else None,
            temperature_c=max(degrees, default=None),
        )
