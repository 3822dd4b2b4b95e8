"""A thread that does the work, so that the one that listens goes on listening."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node

T = TypeVar("T")
_Job = tuple[Callable[[], object], "Future[object] | None"]


class WorkerEndedError(RuntimeError):
    """Work was asked of a worker that has ended."""


class Worker:
    """Does what is posted in the order in which it was posted, one thing at a time, in a thread of its own.

    Subscriptions in ``when_free`` are left alone while something is being done that was posted with ``keep_away``: what comes meanwhile waits in the
    middleware, which keeps as many messages as their depth says, the newest; and whoever listens is not woken for what cannot be used yet.
    Where more comes than can be done the first subscription that is heard is the only one: what must be heard is left out of ``when_free``.
    What a posted call raises ends the worker, and is raised again by the executor of ``node``.
    """

    def __init__(self, node: Node, name: str) -> None:
        self.failure: Exception | None = None
        self.when_free = _WhenFree(self)
        self._changed = threading.Condition()
        self._waiting: deque[_Job] = deque()
        self._asked = self._keeping_away = 0
        self._begun_s: float | None = None
        self._ended = False
        self._context = node.context
        self._news = node.create_guard_condition(self._on_news)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    @property
    def awaited(self) -> bool:
        """Whether somebody waits in ``ask`` or for the end: what takes long may be cut short."""
        return self._asked > 0 or self._ended

    @property
    def busy_s(self) -> float:
        """Seconds since what is being done was begun; 0 where nothing is."""
        begun_s = self._begun_s
        return 0.0 if begun_s is None else time.monotonic() - begun_s

    @property
    def free(self) -> bool:
        """Whether nothing that keeps away waits or is being done."""
        return not self._keeping_away

    def post(self, call: Callable[[], object], keep_away: bool = False) -> None:
        """Have ``call`` done after all that waits now. Nothing, once the worker was closed; one that failed says here, too, what of."""
        with self._changed:
            if self.failure is not None:
                raise self.failure  # a guard condition's trigger may be taken for the one before it
            if self._ended:
                return
            self._keeping_away += keep_away
            self._waiting.append((self._then_free(call) if keep_away else call, None))
            self._changed.notify()

    def ask(self, call: Callable[[], T]) -> T:
        """Have ``call`` done after all that waits now, and wait for what it returns or raises, which does not end the worker.

        Raises:
            WorkerEndedError: the worker has ended before it came to that.
        """
        answer: Future[object] = Future()
        found: list[T] = []
        with self._changed:
            if self._ended:
                raise WorkerEndedError("the worker has ended") from self.failure
            self._asked += 1
            self._waiting.append((lambda: found.append(call()), answer))
            self._changed.notify()
        try:
            answer.result()
        finally:
            with self._changed:
                self._asked -= 1
        return found[0]

    def close(self) -> None:
        """Finish what is being done, drop what waits, and end the thread."""
        self._end()
        self._thread.join()

    def _then_free(self, call: Callable[[], object]) -> Callable[[], object]:
        def done() -> None:
            call()
            with self._changed:
                self._keeping_away -= 1
            self._tell()

        return done

    def _end(self) -> None:
        with self._changed:
            self._ended = True
            dropped = list(self._waiting)
            self._waiting.clear()
            self._changed.notify()
        for _, answer in dropped:
            if answer is not None:
                error = WorkerEndedError("the worker has ended")
                error.__cause__ = self.failure
                answer.set_exception(error)

    def _run(self) -> None:
        while (job := self._next()) is not None:
            call, answer = job
            self._begun_s = time.monotonic()
            try:
                call()
            except Exception as error:
                self._begun_s = None
                if answer is not None:
                    answer.set_exception(error)
                    continue
                self.failure = error
                self._end()
                self._tell()
            else:
                self._begun_s = None
                if answer is not None:
                    answer.set_result(None)

    def _next(self) -> _Job | None:
        with self._changed:
            self._changed.wait_for(lambda: self._ended or bool(self._waiting))
            return None if self._ended else self._waiting.popleft()

    def _tell(self) -> None:
        """Wake the executor; where ROS has been shut down meanwhile there is none to wake."""
        try:
            self._news.trigger()
        except Exception:
            if self._context.ok():
                raise

    def _on_news(self) -> None:
        """In the executor's thread: it looks anew at what it waits for, and a node whose worker cannot go on does not pretend to."""
        if self.failure is not None:
            raise self.failure


class _WhenFree(CallbackGroup):
    """Callbacks that run, and are waited for, while the worker is free."""

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self._worker = worker

    def can_execute(self, entity: object) -> bool:
        """See rclpy."""
        return self._worker.free

    def beginning_execution(self, entity: object) -> bool:
        """See rclpy: whether it may be executed now."""
        return self._worker.free

    def ending_execution(self, entity: object) -> None:
        """See rclpy."""
