"""What launch files may be told, which parameters nodes get, and where topics go: all that needs no ``launch``."""

from __future__ import annotations

import dataclasses
import re

import pytest
import yaml
from conftest import REPOSITORY
from latent_mpc.bringup import MODULES, BringupError, parameter_file
from latent_mpc.commissioning.robot_setup import RobotSetupError, known_robots, read_robot_setup
from latent_mpc.launch_arguments import FILES
from latent_mpc.launch_parameters import given, overlay, shipped_parameters
from latent_mpc.topic_names import OURS, remaps

CODE = [
    file
    for folder in ("sim", "world_model", "planner_node", "ros_ws/src/latent_mpc/latent_mpc")
    for file in (REPOSITORY / folder).rglob("*_node.py")
    # Stand-ins of the tests and of the fault suite.
    if not file.name.startswith(("faults_", "double_"))
]


@pytest.mark.parametrize("name", FILES)
def test_every_argument_says_what_it_is_and_may_be_left_out_or_not(name):
    arguments = FILES[name]
    assert len({argument.name for argument in arguments}) == len(arguments)
    for argument in arguments:
        assert len(argument.description) > 15 and re.fullmatch(r"[a-z_]+", argument.name)
        assert not argument.choices or argument.default in argument.choices
    assert {"params", "namespace", "domain"} <= {argument.name for argument in arguments}
    assert (REPOSITORY / "launch" / f"{name}.launch.py").is_file()


def test_every_launch_file_has_a_table_and_every_word_that_the_code_asks_for():
    assert {file.name.removesuffix(".launch.py") for file in (REPOSITORY / "launch").glob("*.launch.py")} == FILES.keys()
    sources = {name: (REPOSITORY / "launch" / f"{name}.launch.py").read_text() for name in FILES}
    sources["arm"] += (REPOSITORY / "ros_ws/src/latent_mpc/latent_mpc/commissioning/arm_bringup.py").read_text()
    for name, text in sources.items():
        asked = set(re.findall(r'asked\["(\w+)"\]', text))
        assert asked <= {argument.name for argument in FILES[name]}


def test_a_physical_arm_is_started_in_shadow_and_slowly_unless_told_otherwise():
    defaults = {argument.name: argument.default for argument in FILES["arm"]}
    assert defaults["shadow"] == "true" and float(defaults["speed"]) <= 0.1


def declared(name):
    """Every parameter that the node declares, from the dataclass that its module gives to ``declare``."""
    import importlib

    module = importlib.import_module(MODULES[name])
    kinds = [
        kind for kind in vars(module).values() if dataclasses.is_dataclass(kind) and isinstance(kind, type) and kind.__name__.endswith("Parameters")
    ]
    return {field.name: field for kind in kinds for field in dataclasses.fields(kind)}


@pytest.mark.parametrize("name", MODULES)
def test_every_shipped_parameter_is_one_that_the_node_declares(name):
    pytest.importorskip("rclpy")
    fields = declared(name)
    assert fields
    assert set(shipped_parameters(name)) <= fields.keys()
    assert list(yaml.safe_load(parameter_file(name).read_text())) == [name]


@pytest.mark.parametrize("robot", known_robots())
def test_what_a_robot_says_to_the_guardrail_is_a_parameter_of_it(robot):
    pytest.importorskip("rclpy")
    setup = read_robot_setup(robot)
    fields = declared("guardrail_node")
    for name, value in setup.guardrail.items():
        metadata = fields[name].metadata
        assert metadata["at_least"] <= value <= metadata["at_most"]
    # A guardrail that hears joint states this seldom would brake all the time.
    timeout = setup.guardrail.get("joint_timeout_s", shipped_parameters("guardrail_node")["joint_timeout_s"])
    assert timeout > 2.0 / setup.joint_states.rate_hz
    assert setup.sources, "where its names come from"
    for path in setup.unverified:
        value = setup
        for part in path.split("."):
            value = getattr(value, part)


def test_every_topic_that_the_nodes_name_moves_into_a_namespace():
    named = set()
    for file in CODE:
        named |= set(re.findall(r'create_(?:lifecycle_)?(?:publisher|subscription)\(\s*\w+,\s*"(/[\w/]+)"', file.read_text()))
    assert len(named) > 15
    assert named - {"/clock", "/diagnostics"} <= set(OURS)
    moved = dict(remaps("arm1"))
    assert moved.keys() == set(OURS) and all(new == f"/arm1{old}" for old, new in moved.items())
    assert remaps("") == []


def test_a_name_that_is_given_is_kept_and_a_relative_one_lies_in_the_namespace():
    assert ("/joint_states", "/left/joint_states") in remaps("", {"/joint_states": "/left/joint_states"})
    assert dict(remaps("arm1", {"/joint_states": "driver/joints"}))["/joint_states"] == "/arm1/driver/joints"
    assert dict(remaps("/arm1/", {"/joint_states": "/joints"}))["/joint_states"] == "/joints"


def test_the_users_parameter_file_is_read_by_every_name_of_a_node(tmp_path):
    file = tmp_path / "mine.yaml"
    blocks = {"/**": {"a": 1, "b": 1, "c": 1}, "planner_node": {"b": 2, "c": 2}, "/arm1/planner_node": {"c": 3}, "guardrail_node": {"d": 4}}
    file.write_text(yaml.safe_dump({key: {"ros__parameters": values} for key, values in blocks.items()}))
    assert overlay(str(file), "planner_node", "arm1") == {"a": 1, "b": 2, "c": 3}
    assert overlay(str(file), "planner_node") == {"a": 1, "b": 2, "c": 2}
    assert overlay("", "planner_node") == {}
    assert given({"mode": "cem", "zones": ""}, mode="mode", zones="zones") == {"mode": "cem"}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("planer_node: {ros__parameters: {seed: 1}}", "'planer_node' is no node of ours"),
        ("planner_node: {seed: 1}", "no parameter file"),
        ("[1, 2]", "no parameter file"),
        ("a: [", "not YAML"),
    ],
)
def test_a_parameter_file_that_would_be_ignored_is_refused_in_one_line(tmp_path, text, reason):
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(BringupError) as refused:
        overlay(str(file), "planner_node")
    assert reason in str(refused.value) and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"jonts": []}, "unknown key 'jonts'; did you mean 'joints'"),
        ({"joints": []}, "list of different names"),
        ({"joints": ["a", "a"]}, "list of different names"),
        ({"command": {"topic": "commands"}}, "absolute topic name"),
        ({"command": {"topic": "/c", "output": "force"}}, "must be one of: trajectory"),
        ({"camera": {"image": "/i"}}, "'info'"),
        ({"joint_states": {"rate_hz": 0}}, "above 0"),
        ({"driver": 3}, "must be a mapping"),
    ],
)
def test_a_robot_file_with_a_mistake_is_refused_in_one_line(tmp_path, change, reason):
    content = yaml.safe_load((REPOSITORY / "launch/config/robots/ur5e.yaml").read_text()) | change
    file = tmp_path / "robot.yaml"
    file.write_text(yaml.safe_dump(content))
    with pytest.raises(RobotSetupError) as refused:
        read_robot_setup(file)
    assert reason in str(refused.value) and "\n" not in str(refused.value)
