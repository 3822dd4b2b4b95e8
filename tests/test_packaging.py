"""What a newcomer and colcon install is what the repository holds."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import setuptools
from catkin_pkg.package import parse_package
from latent_mpc.bringup import MODULES
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).resolve().parents[1]
COLCON_PACKAGE = REPOSITORY / "ros_ws/src/latent_mpc"
PYPROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
REQUIREMENTS = sorted(REPOSITORY.glob("requirements*.txt"))


def requirements(path):
    lines = [line.strip() for line in path.read_text().splitlines()]
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-r "))]


@pytest.fixture(scope="module")
def colcon_setup():
    """The arguments of setup.py's call, made where colcon makes it."""
    arguments = {}
    before, original = Path.cwd(), setuptools.setup
    setuptools.setup = lambda **given: arguments.update(given)
    os.chdir(COLCON_PACKAGE)
    try:
        exec(compile(Path("setup.py").read_text(), "setup.py", "exec"), {"__name__": "__main__"})
    finally:
        os.chdir(before)
        setuptools.setup = original
    return arguments


def test_package_xml_is_valid_and_says_what_pyproject_says():
    package = parse_package(str(COLCON_PACKAGE / "package.xml"))  # raises on anything that colcon would silently stumble over
    package.validate()
    assert package.name == "latent_mpc"
    assert package.version == PYPROJECT["project"]["version"]
    assert package.description == PYPROJECT["project"]["description"]
    assert package.get_build_type() == "ament_python"


OURS = {name.split(".")[0] for name in PYPROJECT["tool"]["setuptools"]["packages"]}
# What a module is called where it is installed from: by pip, or by rosdep.
DISTRIBUTIONS = {"cv2": "opencv-python", "yaml": "pyyaml", "pinocchio": "pin", "pybullet_data": "pybullet", "pybullet_utils": "pybullet"}
ROSDEP = {"numpy": "python3-numpy", "cv2": "python3-opencv", "yaml": "python3-yaml", "rich": "python3-rich", "typer": "python3-typer"}


def imported(folder):
    """Top-level modules that the files below ``folder`` import from elsewhere."""
    found = set()
    for file in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            modules = (
                [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module] if isinstance(node, ast.ImportFrom) else []
            )
            found |= {module.split(".")[0] for module in modules}
    return found - OURS - set(sys.stdlib_module_names)


def test_every_package_xml_is_valid():
    files = [file for file in REPOSITORY.rglob("package.xml") if not {".venv", "install", "build"} & set(file.parts)]
    assert files
    for file in files:
        parse_package(str(file)).validate()


def test_package_xml_names_what_is_imported_and_requirements_the_rest():
    """Every import of the code and of the launch files: a ROS package in package.xml, or a pinned distribution; nothing is named for nothing."""
    named = {dependency.name for dependency in parse_package(str(COLCON_PACKAGE / "package.xml")).exec_depends}
    pinned = {canonicalize_name(requirement.name) for path in REQUIREMENTS for requirement in requirements(path)}
    folders = [COLCON_PACKAGE / folder if folder == "latent_mpc" else REPOSITORY / folder for folder in OURS]
    modules = set().union(*map(imported, [*folders, REPOSITORY / "launch"]))
    ros = {
        module
        for module in modules
        if module in ("rclpy", "launch", "launch_ros", "builtin_interfaces") or module.endswith(("_msgs", "_srvs", "_interfaces"))
    }
    assert ros <= named
    distributions = {canonicalize_name(DISTRIBUTIONS.get(module, module)) for module in modules - ros}
    assert {name for name in distributions if name not in pinned and f"{name}-gpu" not in pinned} == set()
    # ros2launch is what `ros2 launch` is made of.
    assert named - ros - {"ros2launch"} == {ROSDEP[module] for module in modules & ROSDEP.keys()}


def test_every_executable_has_a_module_with_a_main(colcon_setup):
    scripts = colcon_setup["entry_points"]["console_scripts"]
    assert {script.split(" = ")[0] for script in scripts} == {*MODULES, "robot_double"}
    for script in scripts:
        module, function = script.split(" = ")[1].split(":")
        spec = importlib.util.find_spec(module)
        assert spec is not None and spec.origin is not None, f"{module} does not exist"
        assert re.search(rf"^def {function}\(", Path(spec.origin).read_text(), re.M), f"{module} has no {function}()"


def test_executables_go_where_ros2_run_looks():
    assert "install_scripts=$base/lib/latent_mpc" in (COLCON_PACKAGE / "setup.cfg").read_text()


def test_both_installations_hold_every_package(colcon_setup):
    listed = set(PYPROJECT["tool"]["setuptools"]["packages"])
    assert set(colcon_setup["packages"]) == listed
    roots = {name.split(".")[0]: COLCON_PACKAGE if name.startswith("latent_mpc") else REPOSITORY for name in listed}
    existing = {str(path.parent.relative_to(root)).replace("/", ".") for name, root in roots.items() for path in (root / name).rglob("__init__.py")}
    assert listed == existing


def test_colcon_installs_marker_launch_files_and_configuration(colcon_setup):
    data = dict(colcon_setup["data_files"])
    assert data["share/ament_index/resource_index/packages"] == ["resource/latent_mpc"]
    for folder, pattern in (
        ("launch", "launch/*.launch.py"),
        ("config", "launch/config/*.*"),
        ("config/robots", "launch/config/robots/*.yaml"),
        ("security", "launch/security/*.xml"),
    ):
        installed = {Path(file).name for file in data[f"share/latent_mpc/{folder}"]}
        assert installed == {path.name for path in REPOSITORY.glob(pattern)}


@pytest.mark.parametrize("path", REQUIREMENTS, ids=lambda path: path.name)
def test_every_requirement_is_pinned(path):
    for requirement in requirements(path):
        assert re.fullmatch(r"==[\w.+]+", str(requirement.specifier)), f"{path.name}: {requirement}"


@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12"])
def test_every_python_gets_one_version_of_everything(version):
    found = {}
    environment = {"python_version": version, "python_full_version": f"{version}.9", "sys_platform": "linux", "platform_machine": "x86_64"}
    for path in REQUIREMENTS:
        for requirement in requirements(path):
            if requirement.marker is None or requirement.marker.evaluate(environment):
                pins = found.setdefault(canonicalize_name(requirement.name), set())
                pins.add(str(requirement.specifier))
    assert {name: pins for name, pins in found.items() if len(pins) != 1} == {}
    extras = PYPROJECT["project"]["optional-dependencies"]
    declared = [*PYPROJECT["project"]["dependencies"], *extras["ros"], *extras["train"], *extras["dev"], *extras["bench"]]
    wanted = [Requirement(text) for text in declared]
    missing = {canonicalize_name(r.name) for r in wanted if r.marker is None or r.marker.evaluate(environment)} - found.keys()
    assert missing == set()


def test_running_needs_no_training_library():
    names = {requirement.name for requirement in requirements(REPOSITORY / "requirements.txt")}
    assert not names & {"torch", "transformers", "onnx", "onnxscript", "pyarrow", "safetensors", "lightning-fabric", "tensorboard"}


def test_a_missing_python_is_one_line(tmp_path):
    ended = subprocess.run(
        ["bash", ".ci/venv", str(tmp_path / "venv"), "wheels"],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHON": "no-such-python"},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 1 and not (tmp_path / "venv").exists()
    assert ended.stderr.startswith("error: none of no-such-python is installed") and ended.stderr.count("\n") == 1
