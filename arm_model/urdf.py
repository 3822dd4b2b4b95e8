"""URDF files for programs that know no packages, and as rigid-body models."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import coal
import pinocchio as pin

from arm_model.description import ArmDescription, ArmError
from arm_model.packages import locate


def resolved_urdf(urdf: Path) -> str:
    """The URDF as text with every mesh as an absolute path, for programs that know neither packages nor the folder that the file is in.

    Raises:
        ArmError: the file is no XML, or a mesh does not exist.
    """
    try:
        tree = ElementTree.parse(urdf)
    except (OSError, ElementTree.ParseError) as error:
        raise ArmError(f"cannot read URDF {urdf}: {error}") from error
    for mesh in tree.iter("mesh"):
        name = str(mesh.get("filename"))
        path = locate(name, urdf.parent)
        if not path.is_file():
            raise ArmError(f"{urdf}: mesh {name} does not exist")
        mesh.set("filename", str(path))
    return ElementTree.tostring(tree.getroot(), encoding="unicode")


# A mesh is read once for all who measure with it.
_MESHES = coal.CachedMeshLoader()


def collision_shapes(arm: ArmDescription, full: pin.Model) -> pin.GeometryModel:
    """The collision shapes of the arm on its ``full`` model.

    Raises:
        ArmError: the URDF is no XML, or a mesh does not exist or cannot be read.
    """
    try:
        return pin.buildGeomFromUrdfString(full, resolved_urdf(arm.urdf), pin.GeometryType.COLLISION, mesh_loader=_MESHES)
    except (RuntimeError, ValueError) as error:
        raise ArmError(f"{arm.urdf}: its collision shapes cannot be read: {' '.join(str(error).split())}") from error


def full_model(arm: ArmDescription) -> pin.Model:
    """Every joint of the URDF.

    Raises:
        ArmError: the URDF cannot be read, lacks a frame, or has another root.
    """
    try:
        model = pin.buildModelFromUrdf(str(arm.urdf))
    except (RuntimeError, ValueError) as error:
        raise ArmError(f"{arm.urdf} is not a URDF: {' '.join(str(error).split())}") from error
    for frame in (arm.base_frame, arm.tool_frame):
        if not model.existFrame(frame):
            raise ArmError(f"{arm.urdf} has no frame '{frame}'")
    if model.frames[model.getFrameId(arm.base_frame)].parentJoint != 0:
        raise ArmError(f"{arm.urdf}: base_frame '{arm.base_frame}' is not the root")
    return model


def locked_joints(arm: ArmDescription, model: pin.Model) -> list[int]:
    """Joints of the URDF that the description does not name: they stay where they are, at their neutral position.

    Raises:
        ArmError: the description names its joints in another order than the URDF, or one that is more than an angle or a length.
    """
    moving = tuple(name for name in model.names[1:] if name in arm.joints)
    if moving != arm.joints:
        raise ArmError(f"arm '{arm.name}': name the joints in the order of the URDF: {', '.join(moving)}")
    for name in arm.joints:
        # A joint without ends is two numbers to the model, a cosine and a sine.
        if model.joints[model.getJointId(name)].nq != 1:
            raise ArmError(f"{arm.urdf}: joint '{name}' is continuous or has several axes; make it type=\"revolute\" with lower and upper limits")
    return [model.getJointId(name) for name in model.names[1:] if name not in arm.joints]
