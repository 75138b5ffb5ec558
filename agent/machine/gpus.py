"""What the GPUs of this machine do: NVML where its library is, else nvidia-smi, else nothing is known."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_FIELDS = "name,utilization.gpu,memory.used,memory.total,temperature.gpu,power.draw"


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU now; None is unknown. Load in percent, memory in MB, temperature in degrees Celsius, power in watts."""

    name: str
    load: float | None = None
    memory_used: float | None = None
    memory_total: float | None = None
    temperature: float | None = None
    power: float | None = None


class _Utilization(ctypes.Structure):
    _fields_ = (("gpu", ctypes.c_uint), ("memory", ctypes.c_uint))


class _Memory(ctypes.Structure):
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class Gpus:
    """Reads all GPUs. `present` is False only where this machine certainly has none."""

    def __init__(self) -> None:
        self._nvml: Any = _open_nvml()
        self._smi = shutil.which("nvidia-smi")

    @property
    def present(self) -> bool:
        devices = any(Path("/dev").glob("nvidia[0-9]*"))
        return bool(devices or self._nvml is not None or self._smi)

    def read(self) -> list[Gpu] | None:
        """Every GPU; [] where there is none, None when they are there and cannot be read."""
        if not self.present:
            return []
        if self._nvml is not None:
            found = _read_nvml(self._nvml)
            if found is not None:
                return found
        return _read_smi(self._smi) if self._smi else None


def _open_nvml() -> Any:
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        return library if library.nvmlInit_v2() == 0 else None
    except (OSError, AttributeError):
        return None


def _read_nvml(library: Any) -> list[Gpu] | None:
    count = ctypes.c_uint()
    if library.nvmlDeviceGetCount_v2(ctypes.byref(count)) != 0:
        return None
    found = []
    for index in range(count.value):
        handle = ctypes.c_void_p()
        if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)) != 0:
            found.append(Gpu("unknown"))
            continue
        name, use, memory = ctypes.create_string_buffer(96), _Utilization(), _Memory()
        heat, power = ctypes.c_uint(), ctypes.c_uint()
        named = library.nvmlDeviceGetName(handle, name, 96) == 0
        used = library.nvmlDeviceGetUtilizationRates(handle, ctypes.byref(use)) == 0
        held = library.nvmlDeviceGetMemoryInfo(handle, ctypes.byref(memory)) == 0
        hot = library.nvmlDeviceGetTemperature(handle, 0, ctypes.byref(heat)) == 0
        drawn = library.nvmlDeviceGetPowerUsage(handle, ctypes.byref(power)) == 0
        found.append(
            Gpu(
                name.value.decode(errors="replace") if named else "unknown",
                float(use.gpu) if used else None,
                memory.used / 1e6 if held else None,
                memory.total / 1e6 if held else None,
                float(heat.value) if hot else None,
                power.value / 1000 if drawn else None,
            )
        )
    return found


def _read_smi(program: str) -> list[Gpu] | None:
    command = [program, f"--query-gpu={_FIELDS}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)  # noqa: S603  fixed
    except (OSError, subprocess.TimeoutExpired):
        return None
    return parse_smi(done.stdout) if done.returncode == 0 else None


def parse_smi(text: str) -> list[Gpu] | None:
    """nvidia-smi's CSV; a figure that is no number ("[N/A]") is unknown. None when nothing can be read."""
    found = []
    for line in text.strip().splitlines():
        parts = [part.strip() for part in line.split(",")]
        if len(parts) != len(_FIELDS.split(",")):
            return None
        found.append(Gpu(parts[0], *(_number(part) for part in parts[1:])))
    return found or None


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
