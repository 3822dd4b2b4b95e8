"""Which topics of a bag say what: asked for by name, or the only ones that can."""

from __future__ import annotations

from dataclasses import dataclass

from latent_mpc.bag import BagError
from latent_mpc.check_bag import JOINT_STATES_TOPIC, TRAJECTORY_TOPIC
from latent_mpc.recording import CAMERA_TOPIC, GOAL_TOPIC, RESET_TOPIC, TRUTH_TOPIC

PICTURES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
JOINT_STATE, TRAJECTORY = "sensor_msgs/msg/JointState", "trajectory_msgs/msg/JointTrajectory"
FLOATS, TWIST, TWIST_STAMPED = "std_msgs/msg/Float64MultiArray", "geometry_msgs/msg/Twist", "geometry_msgs/msg/TwistStamped"
COMMANDS = (TRAJECTORY, FLOATS, TWIST, TWIST_STAMPED, JOINT_STATE)
# Besides the picture that the arm is to bring about, the simulator's announcement of a new scene.
_USUAL_MARKERS = (RESET_TOPIC, GOAL_TOPIC)


@dataclass(frozen=True)
class AskedTopics:
    """What the user said; None is "find it". No markers means the usual ones that the bag holds."""

    camera: str | None = None
    joint_states: str | None = None
    actions: str | None = None
    markers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Topics:
    """What is read: ``actions`` is None where nothing was commanded, ``truth`` where nobody knows the truth; ``types`` of all that the bag holds."""

    camera: str
    joint_states: str
    actions: str | None
    markers: tuple[str, ...]
    truth: str | None
    types: dict[str, str]

    def all(self) -> tuple[str, ...]:
        """Every topic that is read, without doubles."""
        named = (self.camera, self.joint_states, self.actions, self.truth, *self.markers)
        return tuple(dict.fromkeys(topic for topic in named if topic is not None))


def choose_topics(where: str, held: dict[str, str], asked: AskedTopics) -> Topics:
    """Topics of a bag that holds ``held`` (type by topic); ``where`` names the bag in errors.

    Raises:
        BagError: a topic that was asked for is missing or of a type that cannot say that, or none or several could.
    """
    camera = _one(where, held, asked.camera, "--camera", PICTURES, CAMERA_TOPIC)
    measured = {topic: kind for topic, kind in held.items() if topic != asked.actions} if asked.joint_states is None else held
    joints = _one(where, measured or held, asked.joint_states, "--joint-states", (JOINT_STATE,), JOINT_STATES_TOPIC)
    actions = asked.actions
    if actions is not None:
        actions = _one(where, held, actions, "--actions", COMMANDS, actions)
    else:
        trajectories = [topic for topic, kind in held.items() if kind == TRAJECTORY]
        actions = TRAJECTORY_TOPIC if TRAJECTORY_TOPIC in held else trajectories[0] if len(trajectories) == 1 else None
    missing = [topic for topic in asked.markers if topic not in held]
    if missing:
        raise BagError(f"{where} holds no topic {missing[0]} (--marker); it holds {', '.join(sorted(held))}")
    markers = asked.markers or tuple(topic for topic in _USUAL_MARKERS if topic in held)
    truth = TRUTH_TOPIC if held.get(TRUTH_TOPIC) == FLOATS else None
    return Topics(camera, joints, actions, markers, truth, dict(held))


def _one(where: str, held: dict[str, str], asked: str | None, option: str, kinds: tuple[str, ...], usual: str) -> str:
    if asked is not None:
        if asked not in held:
            raise BagError(f"{where} holds no topic {asked} ({option}); it holds {', '.join(sorted(held)) or 'none'}")
        if held[asked] not in kinds:
            raise BagError(f"{where}: {asked} is of type {held[asked]}; {option} takes {', '.join(kinds)}")
        return asked
    if held.get(usual) in kinds:
        return usual
    fitting = sorted(topic for topic, kind in held.items() if kind in kinds)
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise BagError(f"{where} holds no message on {usual} that could be used, nor any other topic of type {' or '.join(kinds)}")
    raise BagError(f"{where} holds several topics for {option}: {', '.join(fitting)}; say which")
