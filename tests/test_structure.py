"""The house as docs/architecture.md draws it: who may know whom, where ROS may appear, and how long a file may get."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = {name: ROOT / name for name in ("arm_model", "ros_bridge", "sim", "world_model", "planner_node")} | {
    "latent_mpc": ROOT / "ros_ws" / "src" / "latent_mpc" / "latent_mpc"
}
MAY_KNOW = {
    "arm_model": set(),
    "ros_bridge": set(),
    "sim": {"arm_model", "ros_bridge"},
    "world_model": {"ros_bridge"},
    "planner_node": {"arm_model", "ros_bridge", "world_model"},
    "latent_mpc": {"arm_model", "planner_node", "ros_bridge", "sim", "world_model"},
}
SIMULATORS = {"pybullet", "pybullet_data", "pybullet_utils", "gymnasium"}
RUN_TIME = ("world_model/bundle.py", "world_model/runtime.py", "world_model/protocol.py", "world_model/surprise.py", "world_model/heads/onnx_head.py")
LONGEST = 400


def files(package: str) -> list[Path]:
    return sorted(FOLDERS[package].rglob("*.py"))


EVERY_FILE = [file for package in FOLDERS for file in files(package)]


def name_of(file: Path) -> str:
    return str(file.relative_to(ROOT))


@cache
def imports(file: Path) -> frozenset[str]:
    """Every module that a file imports anywhere, by its full dotted name."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(file)}:{node.lineno} imports relatively"
            assert node.module is not None
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return frozenset(found)


def packages(file: Path) -> set[str]:
    return {module.split(".")[0] for module in imports(file)}


def is_ros(package: str) -> bool:
    return package in {"rclpy", "rosbag2_py", "builtin_interfaces", "launch", "launch_ros"} or package.endswith(("_msgs", "_srvs", "_interfaces"))


@pytest.mark.parametrize("package", FOLDERS)
def test_imports_run_downwards_only(package):
    for file in files(package):
        strangers = (packages(file) & FOLDERS.keys()) - MAY_KNOW[package] - {package}
        assert not strangers, f"{name_of(file)} imports {', '.join(sorted(strangers))}"


def test_ros_appears_only_in_nodes_and_in_the_ground():
    for package in ("arm_model", "sim", "world_model", "planner_node"):
        for file in files(package):
            if not file.stem.endswith(("_node", "_parameters")):
                ros = {name for name in packages(file) if is_ros(name)} | (packages(file) & {"ros_bridge"})
                assert not ros, f"{name_of(file)} imports {', '.join(sorted(ros))}"


def test_the_world_model_knows_no_simulator_and_the_simulator_no_learning():
    for file in files("world_model"):
        assert not packages(file) & SIMULATORS, name_of(file)
    for file in files("sim"):
        assert not packages(file) & {"torch", "onnxruntime", "transformers"}, name_of(file)


def test_the_planner_knows_a_world_model_only_through_its_protocols():
    for file in files("planner_node"):
        known = {module for module in imports(file) if module.startswith("world_model.")}
        opens = file.stem.endswith(("_node", "_parameters")) or file.stem == "equipping"  # where a bundle becomes a planning model
        allowed = {"world_model.protocol", "world_model.surprise"} | (
            {"world_model.bundle", "world_model.runtimes", "world_model.precision"} if opens else set()
        )
        heads = "world_model.heads.onnx_head"  # the others are torch
        known -= {heads, f"{heads}.OnnxHead"} if opens else set()
        strangers = {module for module in known if ".".join(module.split(".")[:2]) not in allowed}
        assert not strangers, f"{name_of(file)} imports {', '.join(sorted(strangers))}"
        assert not packages(file) & {"torch", "onnxruntime", "transformers"}, name_of(file)


def test_gradients_import_torch_only_when_they_are_asked_for():
    """At the top of the file there is no torch, and the file that has it is imported inside a function."""
    tree = ast.parse((ROOT / "world_model/differentiable.py").read_text())
    top = [node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)]
    assert not [ast.unparse(node) for node in top if "torch" in ast.unparse(node)]


@pytest.mark.parametrize("start", RUN_TIME)
def test_running_a_bundle_needs_neither_torch_nor_transformers(start):
    """Followed through every module of this repository that is imported on the way."""
    waiting, seen = [ROOT / start], set()
    while waiting:
        file = waiting.pop()
        seen.add(file)
        heavy = packages(file) & {"torch", "transformers", "safetensors", "onnx", "onnxscript", "lightning_fabric", "tensorboard"}
        assert not heavy, f"{start} leads to {name_of(file)}, which imports {', '.join(sorted(heavy))}"
        for module in imports(file):
            parts = module.split(".")
            for path in (ROOT.joinpath(*parts).with_suffix(".py"), ROOT.joinpath(*parts, "__init__.py")):
                if parts[0] in FOLDERS and path.is_file() and path not in seen:
                    waiting.append(path)
    assert len(seen) >= 1


def calls(file: Path) -> dict[str, ast.Call]:
    """Calls of the form ``module.function(...)`` in a file."""
    every = (node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute))
    return {ast.unparse(node.func): node for node in every}


def test_nothing_is_pickled():
    for file in EVERY_FILE:
        assert not packages(file) & {"pickle", "dill", "joblib", "cloudpickle"}, name_of(file)
        called = calls(file)
        assert not called.keys() & {"torch.load", "torch.save"}, name_of(file)
        if "np.load" in called:
            assert "allow_pickle=False" in ast.unparse(called["np.load"]), name_of(file)


@pytest.mark.parametrize("package", ["world_model", "planner_node"])
def test_no_file_is_longer_than_a_reader_can_hold(package):
    for file in files(package):
        lines = len(file.read_text().splitlines())
        assert lines <= LONGEST, f"{name_of(file)} has {lines} lines, more than {LONGEST}"


def test_launch_is_no_package():
    """It would shadow ROS's own `launch`."""
    assert not list((ROOT / "launch").rglob("__init__.py"))


@pytest.mark.parametrize("package", FOLDERS)
def test_every_package_says_what_it_is_and_is_listed(package):
    assert ast.get_docstring(ast.parse((FOLDERS[package] / "__init__.py").read_text()))
    listed = (ROOT / "pyproject.toml").read_text()
    for file in files(package):
        if file.name == "__init__.py":
            dotted = ".".join([package, *file.parent.relative_to(FOLDERS[package]).parts])
            assert f'"{dotted}"' in listed, f"{dotted} is missing in pyproject.toml: it would not be installed"


def test_no_module_is_called_by_what_it_is_not():
    vague = {"utils", "util", "helpers", "helper", "common", "misc", "base"}
    assert not [name_of(file) for file in EVERY_FILE if file.stem in vague]
