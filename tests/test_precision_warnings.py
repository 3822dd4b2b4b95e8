"""Both nodes warn on /diagnostics, and in the log, where they run a precision that nobody measured the calibration in."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import rclpy
from bundles import write_bundle
from conftest import wait_until
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor

from ros_bridge.qos import STATUS
from world_model.bundle import read_manifest, record_surprise, write_manifest
from world_model.surprise import SurpriseCalibration


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    """Calibrated, with graphs that call themselves int8."""
    folder = write_bundle(tmp_path_factory.mktemp("models") / "untrained")
    for name in ("encoder", "rollout"):
        shutil.copyfile(folder / f"{name}.onnx", folder / f"{name}.int8_dynamic.onnx")
    write_manifest(folder, replace(read_manifest(folder), precisions={"int8_dynamic": ["encoder", "rollout"]}))
    record_surprise(folder, SurpriseCalibration(threshold=0.3).to_json(), [])
    return folder


@pytest.mark.parametrize("precision", ["int8", "fp32"])
def test_who_runs_another_precision_than_the_calibrated_one_says_so(start_node, ros_context, bundle, precision):
    listener, executor = rclpy.create_node("listener"), SingleThreadedExecutor()
    executor.add_node(listener)
    reports: dict[str, DiagnosticStatus] = {}
    listener.create_subscription(DiagnosticArray, "/diagnostics", lambda msg: reports.update({status.name: status for status in msg.status}), STATUS)
    settings = ("-p", f"model:={bundle}", "-p", f"precision:={precision}", "-p", "runtime:=cpu")
    nodes = [start_node(module, *settings) for module in ("world_model.perception_node", "planner_node.planner_node")]
    names = {"perception_node: runtime", "planner_node: runtime"}
    wait_until(lambda: executor.spin_once(timeout_sec=0.05) or names <= reports.keys(), timeout_s=60.0, what="both reports")
    for name, node in zip(sorted(names), nodes, strict=True):
        warned = "surprise is calibrated in fp32, what int8_dynamic does to it was not measured"
        assert (reports[name].level == DiagnosticStatus.WARN) == (warned in reports[name].message) == (warned in node.output) == (precision == "int8")
    executor.shutdown()
    listener.destroy_node()
