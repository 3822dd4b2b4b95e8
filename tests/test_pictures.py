"""Large pictures between two processes, by the shipped profile and by the default, in turns; and what framing costs beside a bare resize."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from bundles import write_bundle

pytest.importorskip("rclpy")

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"


def benchmark(name):
    spec = importlib.util.spec_from_file_location(f"benchmark_{name}", BENCHMARKS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_shipped_profile_brings_at_least_what_the_default_does_and_sooner_than_a_reliable_one(tmp_path, monkeypatch):
    pictures = benchmark("pictures")

    class InBlocks(pictures.Delivery):
        """The same, and what each block brought: a machine that stands still for a moment spoils one of them."""

        def add(self, sent_ns, came_ns):
            super().add(sent_ns, came_ns)
            self.__dict__.setdefault("percents", []).append(100.0 * len(came_ns) / len(sent_ns))

    monkeypatch.setattr(pictures, "Delivery", InBlocks)
    (ways,) = pictures.measure(write_bundle(tmp_path / "untrained"), 7, 1.0, ((640, 480),)).values()
    rows = pictures.verdict(ways)
    assert {way: row["sent"] for way, row in rows.items() if way != "p50_ratio"} == dict.fromkeys(pictures.WAYS, 210)
    delivered = {way: np.median(delivery.percents) for way, delivery in ways.items()}
    assert delivered["shipped"] >= max(90.0, delivered["default"]), {way: delivery.percents for way, delivery in ways.items()}
    assert rows["p50_ratio"]["default_reliable"] < 0.8


def test_a_lost_frame_waits_for_the_next_that_comes():
    pictures = benchmark("pictures")
    delivery = pictures.Delivery()
    ms = 1_000_000
    delivery.add([0, 30 * ms, 60 * ms, 90 * ms], {0: 2 * ms, 60 * ms: 64 * ms})
    row = delivery.to_json()
    assert (row["sent"], row["delivered_percent"], row["p50_ms"]) == (4, 50.0, pytest.approx(3.0))
    assert row["mean_wait_ms"] == pytest.approx(np.mean([2, 34, 4]))


def test_message_to_network_input_is_no_slower_than_a_naive_conversion_and_near_a_bare_resize():
    preprocess = benchmark("preprocess")
    ms = preprocess.measure(64, 10, 3)
    assert ms["ours_rgb8"] < 1.5 * ms["bare"], "the bar, by processor time of interleaved rounds"
    assert ms["ours_bgr8"] < ms["naive"]
