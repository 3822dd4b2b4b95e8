"""Arms of any number of joints, for what grows with them: upright chains of cylinders that turn about y and z in turn."""

from __future__ import annotations

from pathlib import Path

from arm_model import ArmDescription, load_arm

_LINK_M, _RADIUS_M = 0.1, 0.03
_LIMIT = '<limit lower="-2.0" upper="2.0" velocity="2.0" acceleration="10.0" jerk="200.0" effort="50.0"/>'


def chain_arm(joints: int, folder: Path) -> ArmDescription:
    """An arm of so many joints and links of 10 cm; its two files are written into ``folder``.

    Links that have one other between them are not checked for collisions: so short they cannot bend far enough to meet.
    """
    shape = f'<geometry><cylinder radius="{_RADIUS_M}" length="{_LINK_M - 2 * _RADIUS_M:.3f}"/></geometry>'
    body = f'<origin xyz="0 0 {_LINK_M / 2}"/>{shape}'
    inertia = '<inertial><mass value="1"/><inertia ixx="0.01" ixy="0" ixz="0" iyy="0.01" iyz="0" izz="0.01"/></inertial>'
    lines = ['<robot name="chain">']
    for number in range(joints + 1):
        lines.append(f'<link name="link{number}">{inertia}<collision>{body}</collision></link>')
    for number in range(joints):
        axis = "0 1 0" if number % 2 else "0 0 1"
        ends = f'<parent link="link{number}"/><child link="link{number + 1}"/><origin xyz="0 0 {_LINK_M}"/><axis xyz="{axis}"/>'
        lines.append(f'<joint name="joint{number + 1}" type="revolute">{ends}{_LIMIT}</joint>')
    lines.append("</robot>")
    (folder / f"chain{joints}.urdf").write_text("\n".join(lines))
    names = ", ".join(f"joint{number + 1}" for number in range(joints))
    apart = "".join(f"  - [link{number}, link{number + 2}]\n" for number in range(joints - 1))
    file = folder / f"chain{joints}.yaml"
    file.write_text(
        f"name: chain{joints}\nurdf: chain{joints}.urdf\njoints: [{names}]\nbase_frame: link0\ntool_frame: link{joints}\n"
        f"home: [{', '.join(['0.1'] * joints)}]\nallowed_collisions:\n{apart}"
    )
    return load_arm(file)
