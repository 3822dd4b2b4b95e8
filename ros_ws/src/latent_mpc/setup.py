"""The colcon package: every node as an executable of `latent_mpc`, launch files and configuration in its share folder.

The packages beside ros_ws are part of it, taken from where they lie in this repository. The other libraries come from requirements.txt.
"""

from glob import glob

from setuptools import setup

ROOT = "../../.."
PACKAGES = {
    name: f"{ROOT}/{name.replace('.', '/')}"
    for name in (
        "arm_model",
        "planner_node",
        "planner_node.critics",
        "planner_node.guardrails",
        "planner_node.solvers",
        "ros_bridge",
        "sim",
        "sim.tasks",
        "world_model",
        "world_model.data",
        "world_model.encoders",
        "world_model.heads",
        "world_model.lean",
        "world_model.objectives",
        "world_model.precision",
        "world_model.predictors",
        "world_model.pretraining",
        "world_model.runtimes",
        "world_model.tensorrt",
        "world_model.tensorrt.operators",
        "world_model.training",
    )
}
NODES = {
    "sim_node": "sim.sim_node",
    "perception_node": "world_model.perception_node",
    "planner_node": "planner_node.planner_node",
    "guardrail_node": "planner_node.guardrail_node",
    "recorder_node": "latent_mpc.recorder_node",
    "framing_node": "latent_mpc.framing_node",
    "robot_double": "latent_mpc.commissioning.double_node",
}

setup(
    name="latent_mpc",
    version="0.1.0",
    packages=["latent_mpc", "latent_mpc.bag_data", "latent_mpc.bags", "latent_mpc.commissioning", "latent_mpc.lerobot", *PACKAGES],
    package_dir=PACKAGES,
    package_data={"arm_model": ["robots/*"], "ros_bridge": ["*.xml"], "world_model": ["configs/*"], "world_model.tensorrt.operators": ["*.json"]},
    data_files=[
        ("share/ament_index/resource_index/packages", ["resource/latent_mpc"]),
        ("share/latent_mpc", ["package.xml"]),
        ("share/latent_mpc/launch", glob(f"{ROOT}/launch/*.launch.py")),
        ("share/latent_mpc/config", glob(f"{ROOT}/launch/config/*.*")),
        ("share/latent_mpc/config/robots", glob(f"{ROOT}/launch/config/robots/*.yaml")),
        ("share/latent_mpc/security", glob(f"{ROOT}/launch/security/*.xml")),
        ("share/latent_mpc/benchmarks/faults", glob(f"{ROOT}/benchmarks/faults/*.yaml")),
    ],
    zip_safe=False,
    license="Apache-2.0",
    entry_points={"console_scripts": [f"{name} = {module}:main" for name, module in NODES.items()]},
)
