import json
import os
import time

import pytest

from labeltune import monitor as module
from labeltune.monitor import Gpu, Monitor


def test_without_a_gpu_its_figures_are_null_and_never_zero():
    with Monitor(interval_s=0.01) as monitor, monitor.phase("train"):
        time.sleep(0.1)
    summary = monitor.summary()
    for name in ("gpu_load_percent_mean", "gpu_memory_mib_mean", "gpu_memory_mib_peak", "energy_wh"):
        assert summary[name] is None
    assert summary["host_memory_mib_peak"] > 10
    assert summary["cpu_load_percent_mean"] >= 0


def test_samples_go_to_the_file_those_before_it_too(tmp_path):
    path = tmp_path / "hardware.jsonl"
    with Monitor(interval_s=0.01) as monitor:
        time.sleep(0.05)
        early = len(monitor.samples)
        monitor.record_to(path)
        with monitor.phase("score"):
            time.sleep(0.1)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert early > 0
    assert len(lines) == len(monitor.samples) > early
    assert {line["phase"] for line in lines} == {"start", "score"}
    assert set(lines[0]) == {
        "t_s", "phase", "gpu_load_percent", "gpu_memory_mib", "gpu_power_w", "cpu_load_percent", "host_memory_mib"
    }  # fmt: skip


def test_an_inner_phase_is_not_counted_twice():
    monitor = Monitor()
    with monitor.phase("train"):
        time.sleep(0.05)
        with monitor.phase("score"):
            time.sleep(0.1)
        time.sleep(0.05)
    assert monitor.elapsed_s["train"] == pytest.approx(0.1, abs=0.05)
    assert monitor.elapsed_s["score"] == pytest.approx(0.1, abs=0.05)
    assert sum(monitor.elapsed_s.values()) <= monitor.total_s()


def test_a_driver_that_goes_away_leaves_nulls():
    class Gone:
        def __getattr__(self, name):
            raise OSError("the driver is gone")

    gpu = Gpu(None)
    gpu._nvml = Gone()
    assert gpu.read() == {"gpu_load_percent": None, "gpu_memory_mib": None, "gpu_power_w": None}


def test_a_full_disk_does_not_stop_the_run(tmp_path):
    with Monitor(interval_s=0.01) as monitor:
        monitor._path = tmp_path / "no such folder" / "hardware.jsonl"
        time.sleep(0.05)
        assert monitor._thread.is_alive()
    assert len(monitor.samples) > 1


def test_a_disk_that_hangs_does_not_stop_the_run(tmp_path):
    """A pipe that nobody reads: opening it to write never returns."""
    os.mkfifo(tmp_path / "hardware.jsonl")
    begun_s = time.perf_counter()
    with Monitor(interval_s=0.01) as monitor, monitor.phase("train"):
        monitor._path = tmp_path / "hardware.jsonl"
        time.sleep(0.1)
    assert time.perf_counter() - begun_s < 8
    assert monitor._thread.is_alive()
    assert monitor.summary()["host_memory_mib_peak"] > 0


def test_energy_is_power_over_time_and_unknown_from_one_sample():
    assert module._energy_wh([{"t_s": 0, "gpu_power_w": 100.0}]) is None
    samples = [{"t_s": t, "gpu_power_w": 360.0} for t in range(11)]
    assert module._energy_wh(samples) == pytest.approx(1.0)
