"""Calls in processes of their own, forked from this one: they share what it has read and opened, and hand back what they return."""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, TypeVar

T = TypeVar("T")


def side_by_side(calls: Sequence[Callable[[], T]]) -> list[T]:
    """What each of ``calls`` returns, in their order; the first is made in this process. No other thread may be at work meanwhile.

    Raises:
        Exception: what the first of those that failed raised.
    """
    context = multiprocessing.get_context("fork")
    children = []
    for call in calls[1:]:
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=_answer, args=(call, ours, theirs), daemon=True)
        child.start()
        theirs.close()
        children.append((child, ours))
    try:
        found = [call() for call in calls[:1]]
        for child, ours in children:
            try:
                answer = ours.recv()
            except EOFError as error:
                child.join()
                raise ChildProcessError(f"a process that shared the work ended with status {child.exitcode}") from error
            if isinstance(answer, Exception):
                raise answer
            found.append(answer)
    finally:
        for child, ours in children:
            ours.close()
            child.terminate()
            child.join()
    return found


def _answer(call: Callable[[], Any], parents: Connection, out: Connection) -> None:
    parents.close()  # else whoever answers a parent that is gone would wait for itself to read
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which ends this process
    answer: object
    try:
        answer = call()
    except Exception as error:
        answer = error
    out.send(answer)
    out.close()
