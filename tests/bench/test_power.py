from __future__ import annotations

import threading
from pathlib import Path

import pytest

from rwkv_edge.bench.jetson import JetsonMeter, parse_tegrastats
from rwkv_edge.bench.meters import RaplMeter, find_meter, parse_nvidia_smi
from rwkv_edge.bench.power import Meter, Reading, Sampler, summarise_readings


def write(root: Path, files: dict[str, object]) -> Path:
    for name, value in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{value}\n")
    return root


def rail(
    monitor: int, channel: int, label: str, millivolts: int, milliamperes: int
) -> dict[str, object]:
    place = f"sys/class/hwmon/hwmon{monitor}"
    return {
        f"{place}/name": "ina3221",
        f"{place}/in{channel}_label": label,
        f"{place}/in{channel}_input": millivolts,
        f"{place}/curr{channel}_input": milliamperes,
    }


@pytest.fixture
def agx_orin(tmp_path: Path) -> Path:
    """The files of an AGX Orin with JetPack 6."""
    gpu = "sys/class/devfreq/17000000.gpu"
    return write(
        tmp_path,
        {
            "proc/device-tree/compatible": "nvidia,p3737-0000+p3701-0005\0nvidia,tegra234\0",
            "proc/meminfo": "MemTotal: 64000 kB\nMemFree: 1 kB\nMemAvailable: 60000 kB",
            "sys/class/hwmon/hwmon0/name": "tmp451",
            **rail(1, 1, "VDD_GPU_SOC", 19000, 400),
            **rail(1, 2, "VDD_CPU_CV", 19000, 100),
            **rail(1, 3, "VIN_SYS_5V0", 5000, 800),
            **rail(2, 1, "NC", 5000, 5000),
            **rail(2, 2, "VDDQ_VDD2_1V8AO", 5000, 300),
            "sys/class/thermal/thermal_zone0/type": "cpu-thermal",
            "sys/class/thermal/thermal_zone0/temp": 48250,
            "sys/class/thermal/thermal_zone1/type": "gpu-thermal",
            "sys/class/thermal/thermal_zone1/temp": 51500,
            f"{gpu}/cur_freq": 1300500000,
            f"{gpu}/min_freq": 306000000,
            f"{gpu}/max_freq": 1300500000,
            "var/lib/nvpmodel/status": "pmode:0003",
            "etc/nvpmodel.conf": "< POWER_MODEL ID=0 NAME=MAXN >\n"
            "< POWER_MODEL ID=3 NAME=MODE_50W >",
        },
    )


def test_agx_orin(agx_orin: Path) -> None:
    meter = find_meter(agx_orin).meter
    assert isinstance(meter, JetsonMeter)
    reading = meter.read()
    # VDDQ hangs on VIN_SYS_5V0 and would count twice; NC is not connected
    assert reading.watts == pytest.approx(19 * 0.4 + 19 * 0.1 + 5 * 0.8)
    assert reading.temperature_c == 51.5
    assert reading.clock_mhz == 1300.5
    assert reading.device_memory_bytes == 4000 * 1024
    assert meter.power_mode == "3 (MODE_50W)"
    assert meter.clocks_locked is False


def test_locked_clocks(agx_orin: Path) -> None:
    (agx_orin / "sys/class/devfreq/17000000.gpu/min_freq").write_text("1300500000\n")
    assert JetsonMeter(agx_orin).clocks_locked is True


def test_one_rail_sees_the_whole_module_of_orin_nano(agx_orin: Path) -> None:
    write(agx_orin, rail(1, 1, "VDD_IN", 5000, 1000) | rail(1, 2, "VDD_CPU_GPU_CV", 5000, 300))
    assert JetsonMeter(agx_orin).read().watts == pytest.approx(5.0)


def test_a_sensor_that_falls_silent_is_none_not_zero(agx_orin: Path) -> None:
    meter = JetsonMeter(agx_orin)
    (agx_orin / "sys/class/hwmon/hwmon1/curr2_input").unlink()
    (agx_orin / "sys/class/devfreq/17000000.gpu/cur_freq").unlink()
    reading = meter.read()
    assert reading.watts is None
    assert reading.clock_mhz is None
    assert reading.temperature_c == 51.5


def test_why_there_is_no_meter(tmp_path: Path, agx_orin: Path) -> None:
    assert "no power sensor" in find_meter(tmp_path / "nothing").reason
    for path in agx_orin.glob("sys/class/hwmon/*/name"):
        path.unlink()
    assert "no INA3221" in find_meter(agx_orin).reason


def test_rapl_counts_on_when_its_counter_starts_anew(tmp_path: Path) -> None:
    zone = "sys/class/powercap/intel-rapl:0"
    write(
        tmp_path,
        {
            f"{zone}/name": "package-0",
            f"{zone}/energy_uj": 9_000_000,
            f"{zone}/max_energy_range_uj": 10_000_000,
            "sys/class/powercap/intel-rapl:0:0/name": "core",
            "sys/class/powercap/intel-rapl:0:0/energy_uj": 5,
        },
    )
    meter = find_meter(tmp_path).meter
    assert isinstance(meter, RaplMeter)
    assert meter.read().joules == 0
    (tmp_path / zone / "energy_uj").write_text("500000\n")
    assert meter.read().joules == pytest.approx(1.5)


def test_tegrastats() -> None:
    line = (
        "01-02-2025 10:00:00 RAM 2410/7620MB (lfb 4x4MB) SWAP 0/3810MB CPU [2%@1510,off] "
        "GR3D_FREQ 12%@[611] cpu@45.906C soc2@44.9C cv0@-256C gpu@46.2C tj@46.2C "
        "VDD_IN 5120mW/5000mW VDD_CPU_GPU_CV 700mW/690mW VDD_SOC 1500mW/1500mW"
    )
    assert parse_tegrastats(line) == Reading(5.12, None, 46.2, 611.0, 2410 << 20)
    agx = "GR3D_FREQ 0% VDD_GPU_SOC 3000mW/1mW VDD_CPU_CV 400mW/1mW VIN_SYS_5V0 4000mW/1mW "
    assert parse_tegrastats(agx + "VDDQ_VDD2_1V8AO 500mW/1mW").watts == pytest.approx(7.4)
    assert parse_tegrastats("") == Reading()


def test_nvidia_smi() -> None:
    assert parse_nvidia_smi("71.25, 34, 1980, 1024\n") == Reading(71.25, None, 34, 1980, 1 << 30)
    assert parse_nvidia_smi("[N/A], 34, 1980, [Not Supported]") == Reading(None, None, 34, 1980)
    with pytest.raises(ValueError, match="nvidia-smi said"):
        parse_nvidia_smi("No devices were found")


def test_watts_are_integrated_over_time() -> None:
    samples = [(0.0, Reading(10.0, None, 40.0)), (1.0, Reading(20.0, None, 45.0, 500.0))]
    samples.append((3.0, Reading(20.0, None, 44.0, 700.0)))
    usage = summarise_readings(samples)
    assert usage.joules == pytest.approx(15 + 40)
    assert usage.watts == pytest.approx(55 / 3)
    assert (usage.temperature_c, usage.clock_mhz) == (45.0, 600.0)


def test_a_counter_of_joules_is_preferred() -> None:
    usage = summarise_readings([(0.0, Reading(1.0, 5.0)), (2.0, Reading(1.0, 11.0))])
    assert (usage.joules, usage.watts) == (6.0, 3.0)


def test_nothing_measured_is_none() -> None:
    usage = summarise_readings([(0.0, Reading()), (2.0, Reading())])
    assert (usage.joules, usage.watts, usage.temperature_c, usage.clock_mhz) == (None,) * 4


def test_the_sampler_reads_while_the_block_runs() -> None:
    class Counting(Meter):
        name, measures = "counting", "test"
        readings = 0

        def read(self) -> Reading:
            self.readings += 1
            if self.readings >= 5:
                enough.set()
            return Reading(watts=2.0)

    enough = threading.Event()
    meter = Counting()
    with Sampler(meter, interval=0.001) as sampler:
        assert enough.wait(30)
    assert sampler.usage.readings == meter.readings >= 5
    assert sampler.usage.watts == pytest.approx(2.0)
    assert sampler.usage.joules == pytest.approx(2.0 * sampler.usage.seconds)
