"""ROS parameters declared from a frozen dataclass: typed, ranged, described, and validated whenever they are set.

Example::

    @dataclass(frozen=True)
    class CameraParameters:
        rate_hz: float = parameter(20.0, "frames per second", at_least=1.0, at_most=100.0)
        encoder: str = parameter("small", "which encoder runs", choices=("small", "large"))

    class CameraNode(Node):
        def __init__(self) -> None:
            super().__init__("camera_node")
            self.parameters = declare(self, CameraParameters)
"""

from __future__ import annotations

import dataclasses
import math
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar, get_type_hints

# The dataclasses are read without a node too, from a bag: only what declares them waits for rclpy.
if TYPE_CHECKING:
    from rcl_interfaces.msg import ParameterDescriptor, SetParametersResult
    from rclpy.node import Node
    from rclpy.parameter import Parameter

T = TypeVar("T", bool, int, float, str, "tuple[float, ...]", "tuple[int, ...]", "tuple[str, ...]")


class _Dataclass(Protocol):
    __dataclass_fields__: ClassVar[dict[str, dataclasses.Field[Any]]]


C = TypeVar("C", bound=_Dataclass)

# Names in rclpy.parameter.Parameter.Type.
_TYPES: dict[object, str] = {
    bool: "BOOL",
    int: "INTEGER",
    float: "DOUBLE",
    str: "STRING",
    tuple[float, ...]: "DOUBLE_ARRAY",
    tuple[int, ...]: "INTEGER_ARRAY",
    tuple[str, ...]: "STRING_ARRAY",
}
_LARGEST_INTEGER = 2**63 - 1


class ParameterError(ValueError):
    """A parameter of the wrong type or outside its range, with the reason in one line."""


def parameter(
    default: T,
    description: str,
    *,
    at_least: float | None = None,
    at_most: float | None = None,
    choices: Sequence[str] = (),
    fixed: bool = False,
) -> T:
    """A field of a parameter dataclass: its default, what it means (with its unit), and which values it may take.

    ``fixed`` says that it takes effect only at the start, although others of its dataclass may be set while the node runs.

    Bounds include their ends and hold for every element of a tuple. Types: bool, int, float, str and tuples of float, int or str;
    a tuple may not be empty by default, because ROS cannot tell what it would be a tuple of.
    """
    metadata = {"description": description, "at_least": at_least, "at_most": at_most, "choices": tuple(choices), "fixed": fixed}
    field: T = dataclasses.field(default=default, metadata=metadata)
    return field


def declare(node: Node, parameters: type[C], on_change: Callable[[C, frozenset[str]], None] | None = None) -> C:
    """Declare every field of the dataclass ``parameters`` on ``node`` and return its values.

    With ``on_change`` those that are not ``fixed`` may be set while the node runs: it is called with the new values after they passed validation,
    and the names of those that were set, be it to what they were. It may refuse them with a ``ValueError``, whose text the caller of the set service
    reads. Without it they are read-only.

    Raises:
        ParameterError: a value given on the command line or in a parameter file has the wrong type or lies outside its range,
            or the dataclass itself refuses the values (a ``ValueError`` from its ``__post_init__``).
    """
    from rcl_interfaces.msg import SetParametersResult
    from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

    hints = get_type_hints(parameters)
    fields = {field.name: field for field in dataclasses.fields(parameters)}
    values: dict[str, object] = {}
    for name, field in fields.items():
        default = list(field.default) if isinstance(field.default, tuple) else field.default
        try:
            declared = node.declare_parameter(name, default, _descriptor(field, hints[name], read_only=on_change is None))
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            reason = str(error).rpartition("Reason: ")[2].removesuffix(f": {name}")
            raise ParameterError(f"parameter '{name}': {reason}") from error
        values[name] = _checked(field, hints[name], declared.value)
    current = _build(parameters, values)
    if on_change is None:
        return current

    def on_set(changes: list[Parameter]) -> SetParametersResult:
        ours = [change for change in changes if change.name in fields]
        try:
            for change in ours:
                if fields[change.name].metadata["fixed"] and list(_elements(change.value)) != list(_elements(values[change.name])):
                    raise ParameterError(f"parameter '{change.name}' is fixed at the start; restart the node")
            values_now = {**values, **{change.name: _checked(fields[change.name], hints[change.name], change.value) for change in ours}}
            if ours:
                on_change(_build(parameters, values_now), frozenset(change.name for change in ours))
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        values.update(values_now)
        return SetParametersResult(successful=True)

    node.add_on_set_parameters_callback(on_set)
    return current


def parameters_of(parameters: type[C], values: Mapping[str, object]) -> C:
    """The dataclass ``parameters`` with ``values`` for some of its fields, validated as a node validates them, without a node.

    A whole number is taken for a float, as in a parameter file.

    Raises:
        ParameterError: a name that does not exist, a value of the wrong type or outside its range, or values that the dataclass refuses.
    """
    hints, fields = get_type_hints(parameters), {field.name: field for field in dataclasses.fields(parameters)}
    given: dict[str, object] = {}
    for name, value in values.items():
        if name not in fields:
            raise ParameterError(f"unknown parameter '{name}'; there are {', '.join(fields)}")
        kind = hints[name]
        wanted = float(value) if kind is float and type(value) is int else value
        if kind in (bool, int, float, str) and type(wanted) is not kind:
            raise ParameterError(f"parameter '{name}' is {value!r}, must be of type {kind.__name__}")
        given[name] = _checked(fields[name], kind, wanted)
    return _build(parameters, given)


def _descriptor(field: dataclasses.Field[Any], hint: object, read_only: bool) -> ParameterDescriptor:
    from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor
    from rclpy.parameter import Parameter

    low, high = field.metadata["at_least"], field.metadata["at_most"]
    choices = field.metadata["choices"]
    descriptor = ParameterDescriptor(
        name=field.name,
        type=Parameter.Type[_TYPES[hint]].value,
        description=field.metadata["description"],
        additional_constraints=f"one of: {', '.join(choices)}" if choices else "",
        read_only=read_only,
    )
    if hint is float and (low is not None or high is not None):
        bound = sys.float_info.max
        descriptor.floating_point_range = [
            FloatingPointRange(from_value=-bound if low is None else float(low), to_value=bound if high is None else float(high))
        ]
    if hint is int and (low is not None or high is not None):
        bound = _LARGEST_INTEGER
        descriptor.integer_range = [
            IntegerRange(from_value=-bound if low is None else int(low), to_value=bound if high is None else int(high), step=1)
        ]
    return descriptor


def _checked(field: dataclasses.Field[Any], hint: object, value: object) -> object:
    """``value`` as the dataclass wants it; ROS itself checks neither tuples, nor choices, nor finiteness."""
    if value is None:
        raise ParameterError(f"parameter '{field.name}' is not set")
    low, high, choices = field.metadata["at_least"], field.metadata["at_most"], field.metadata["choices"]
    elements = _elements(value)
    for element in elements:
        if isinstance(element, float) and not math.isfinite(element):
            raise ParameterError(f"parameter '{field.name}' is {element}, must be finite")
        if isinstance(element, int | float) and ((low is not None and element < low) or (high is not None and element > high)):
            raise ParameterError(f"parameter '{field.name}' is {element}, must be {_range(low, high)}")
        if choices and element not in choices:
            raise ParameterError(f"parameter '{field.name}' is '{element}', must be one of: {', '.join(choices)}")
    return value if hint in (bool, int, float, str) else elements


def _elements(value: object) -> tuple[object, ...]:
    return (value,) if isinstance(value, str) or not isinstance(value, Iterable) else tuple(value)


def _range(low: float | None, high: float | None) -> str:
    bounds = ([] if low is None else [f"at least {low:g}"]) + ([] if high is None else [f"at most {high:g}"])
    return " and ".join(bounds)


def _build(parameters: type[C], values: dict[str, object]) -> C:
    try:
        return parameters(**values)
    except ParameterError:
        raise
    except ValueError as error:
        raise ParameterError(str(error)) from error
