"""Hardware load over time, and where the time went. Watching never stops a run: what cannot be read is null."""

from __future__ import annotations

import contextlib
import itertools
import json
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil

MIB = 1024 * 1024


class Gpu:
    """One NVIDIA GPU through its management library; every reading is None where there is none."""

    def __init__(self, uuid: str | None) -> None:
        """
        Args:
            uuid: the GPU that the run uses, as torch names it; None where it uses none, so that another's load is not
                put down to it.
        """
        self._nvml: Any = None
        self._handle: Any = None
        if uuid is not None:
            with contextlib.suppress(Exception):
                import pynvml

                pynvml.nvmlInit()
                self._handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{uuid.removeprefix('GPU-')}")
                self._nvml = pynvml

    def read(self) -> dict[str, float | None]:
        """Load, memory in use and power at this moment."""
        return {
            "gpu_load_percent": self._read(lambda nvml, gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu),
            "gpu_memory_mib": self._read(lambda nvml, gpu: nvml.nvmlDeviceGetMemoryInfo(gpu).used / MIB),
            "gpu_power_w": self._read(lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000),
        }

    def _read(self, reading: Callable[[Any, Any], float]) -> float | None:
        if self._nvml is None:
            return None
        try:
            return float(reading(self._nvml, self._handle))
        except Exception:  # a driver that goes away in the middle of a run must not take the run with it
            return None


class Monitor:
    """Samples the hardware once a second in the background, and sums wall time by phase.

    >>> monitor = Monitor()
    >>> with monitor.phase("load"):
    ...     pass
    >>> sorted(monitor.elapsed_s)
    ['load']
    """

    def __init__(self, interval_s: float = 1.0) -> None:
        self.elapsed_s: dict[str, float] = {}
        self.samples: list[dict[str, Any]] = []
        self._path: Path | None = None
        self._interval_s = interval_s
        self._gpu = Gpu(None)
        self._process = psutil.Process()
        self._phase = "start"
        self._start_s = time.perf_counter()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Monitor:
        psutil.cpu_percent()  # the first reading only sets the clock
        self._thread = threading.Thread(target=self._watch, daemon=True, name="hardware monitor")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def watch_gpu(self, uuid: str | None) -> None:
        """From now on sample this GPU too; None where the run uses none."""
        self._gpu = Gpu(uuid)

    def record_to(self, path: Path) -> None:
        """Append every sample, those so far included, to this file as a line of JSON."""
        with contextlib.suppress(OSError), path.open("a", encoding="utf-8") as out:
            out.writelines(json.dumps(sample) + "\n" for sample in self.samples)
        self._path = path

    @contextlib.contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Put the time spent inside down to this phase; an inner phase's time is its own alone."""
        outer, begun_s, inner_s = self._phase, time.perf_counter(), sum(self.elapsed_s.values())
        self._phase = name
        try:
            yield
        finally:
            spent_inside_s = sum(self.elapsed_s.values()) - inner_s
            own_s = time.perf_counter() - begun_s - spent_inside_s
            self.elapsed_s[name] = self.elapsed_s.get(name, 0.0) + own_s
            self._phase = outer

    def total_s(self) -> float:
        return time.perf_counter() - self._start_s

    def summary(self, phase: str = "train") -> dict[str, float | None]:
        """Means and peaks over one phase; energy over the whole run. Null where there is no such device."""
        during = [sample for sample in self.samples if sample["phase"] == phase]
        return {
            "gpu_load_percent_mean": _mean(during, "gpu_load_percent"),
            "gpu_memory_mib_mean": _mean(during, "gpu_memory_mib"),
            "gpu_memory_mib_peak": _peak(self.samples, "gpu_memory_mib"),
            "energy_wh": _energy_wh(self.samples),
            "cpu_load_percent_mean": _mean(during, "cpu_load_percent"),
            "host_memory_mib_peak": _peak(self.samples, "host_memory_mib"),
        }

    def _watch(self) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(Exception):
                self._sample()
            self._stopped.wait(self._interval_s)

    def _sample(self) -> None:
        sample: dict[str, Any] = {
            "t_s": round(self.total_s(), 3),
            "phase": self._phase,
            **self._gpu.read(),
            "cpu_load_percent": psutil.cpu_percent(),
            "host_memory_mib": round(self._process.memory_info().rss / MIB, 1),
        }
        self.samples.append(sample)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as out:
                out.write(json.dumps(sample) + "\n")


def _values(samples: list[dict[str, Any]], key: str) -> list[float]:
    return [float(sample[key]) for sample in samples if sample[key] is not None]


def _mean(samples: list[dict[str, Any]], key: str) -> float | None:
    values = _values(samples, key)
    return sum(values) / len(values) if values else None


def _peak(samples: list[dict[str, Any]], key: str) -> float | None:
    return max(_values(samples, key), default=None)


def _energy_wh(samples: list[dict[str, Any]]) -> float | None:
    """The GPU's power integrated over time by the trapezoidal rule.

    >>> _energy_wh([{"t_s": 0, "gpu_power_w": 100.0}, {"t_s": 36, "gpu_power_w": 300.0}])
    2.0
    """
    measured = [(sample["t_s"], sample["gpu_power_w"]) for sample in samples if sample["gpu_power_w"] is not None]
    if len(measured) < 2:
        return None
    watt_seconds = sum((t1 - t0) * (p0 + p1) / 2 for (t0, p0), (t1, p1) in itertools.pairwise(measured))
    return float(watt_seconds) / 3600
