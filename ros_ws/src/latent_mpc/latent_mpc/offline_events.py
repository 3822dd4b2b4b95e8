"""What a planner's journal says that was taken in, event by event, and where it may be cut.

A goal begins everything anew: the search is seeded anew, the arm is taken to be commanded where it stands, and nothing that was seen before counts.
So stretches of a journal that begin with a goal can be planned again side by side, and give what they give one after another.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from planner_node.journal import Entry, Kind, Moment

_LASTING = (Kind.SETTINGS, Kind.ZONES)


@dataclass(frozen=True)
class Event:
    """Something to take in, and what a journal says of how it was dealt with.

    ``readings``: later looks at the clock. ``iterations``: after how many the search was cut, 0 for none; None where there was no search.
    """

    kind: Kind
    what: int
    at: Moment
    readings: tuple[Moment, ...] = ()
    iterations: int | None = None
    values: tuple[float, ...] = ()


@dataclass(frozen=True)
class Stretch:
    """``events`` to take in after those that still hold of what came ``before``.

    ``took_s``: how long the searches before took then. ``until``: the goal with which the next stretch begins, which ends this one's.
    """

    events: tuple[Event, ...]
    before: tuple[Event, ...] = ()
    took_s: tuple[float, ...] = ()
    until: Event | None = None


def journaled(entries: Sequence[Entry]) -> Iterator[Event]:
    """Events with the looks at the clock that follow them."""
    event: Entry | None = None
    readings: list[Moment] = []
    iterations: int | None = None
    for entry in entries:
        if entry.kind is Kind.READING:
            readings.append(entry.at)
        elif entry.kind is Kind.SEARCH:
            iterations = entry.what
        else:
            if event is not None:
                yield Event(event.kind, event.what, event.at, tuple(readings), iterations, event.values)
            event, readings, iterations = entry, [], None
    if event is not None:
        yield Event(event.kind, event.what, event.at, tuple(readings), iterations, event.values)


def halves(events: Sequence[Event], known: Callable[[Event], bool]) -> tuple[Stretch, ...]:
    """``events`` in two at the goal that leaves about as many searches on either side; in one where none is fit for that.

    ``known``: whether the bag holds what a JOINTS or GOAL event speaks of. A goal that comes before the planner is active and knows where the arm
    stands waits for both: what follows is not cut.
    """
    searches = [event.iterations is not None for event in events]
    half, done = sum(searches) / 2, 0
    cut, off = 0, half
    active = measured = False
    for index, event in enumerate(events):
        if event.kind is Kind.GOAL and known(event):
            if not (active and measured):
                break
            if abs(done - half) < off:
                cut, off = index, abs(done - half)
        active = event.kind is Kind.ACTIVATE or (active and event.kind is not Kind.DEACTIVATE)
        measured = measured or (event.kind is Kind.JOINTS and known(event))
        done += searches[index]
    if not cut:
        return (Stretch(tuple(events)),)
    earlier, later = tuple(events[:cut]), tuple(events[cut:])
    joints = [event for event in earlier if event.kind is Kind.JOINTS and known(event)][-1]
    before = (Event(Kind.ACTIVATE, 0, joints.at), *(event for event in earlier if event.kind in _LASTING), joints)
    return Stretch(earlier, until=later[0]), Stretch(later, before, tuple(_took_s(earlier)))


def _took_s(events: Sequence[Event]) -> Iterator[float]:
    for event in events:
        if event.iterations is not None and len(event.readings) > 1:
            yield event.readings[1].steady_s - event.readings[0].steady_s
