"""Shards made in parallel: each by whoever is free, all of them the same whatever the number of workers, and only those that are missing."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from world_model.data import DatasetError, EpisodeDataset, ShardWriter, write_description

_LONGEST = 160


class Collector(Protocol):
    """Makes one shard after another; what a shard holds depends on its index alone."""

    def shard(self, index: int) -> dict[str, NDArray[Any]]:
        """The arrays of shard ``index``, as ``ShardWriter.write`` takes them."""
        ...


_worker: tuple[Collector, Path] | None = None


def _open_worker(make: Callable[[], Collector], out: Path) -> None:
    global _worker  # one simulator per worker process, opened once
    _worker = (make(), out)


def _collect_shard(index: int) -> None:
    assert _worker is not None
    collector, out = _worker
    ShardWriter(out, index).write(**collector.shard(index))


def collect_shards(
    out: Path, description: dict[str, Any], shards: int, make: Callable[[], Collector], workers: int, report: Callable[[int, int], None]
) -> None:
    """Have every shard that ``out`` does not hold yet made by ``workers`` processes; ``report(done, all)`` after each.

    ``make`` opens a collector in a worker; it must be picklable.

    Raises:
        DatasetError: the folder holds another collection.
    """
    claim(out, description)
    missing = [index for index in range(shards) if not ShardWriter(out, index).path.is_dir()]
    done = shards - len(missing)
    report(done, shards)
    for _ in _collected(out, missing, make, workers):
        done += 1
        report(done, shards)


def _collected(out: Path, missing: list[int], make: Callable[[], Collector], workers: int) -> Iterator[None]:
    if workers == 1 and missing:
        _open_worker(make, out)
        yield from map(_collect_shard, missing)
        return
    # An executor says so when a worker was killed; a Pool would wait for it for ever.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _open_worker, (make, out)) as pool:
        yield from pool.map(_collect_shard, missing)


def claim(out: Path, description: dict[str, Any]) -> None:
    """Write the description, unless the folder holds shards of another one."""
    _refuse_another(out, description)
    write_description(out, description)


def _refuse_another(out: Path, description: dict[str, Any]) -> None:
    if (out / "dataset.json").is_file() and any(out.glob("shard-*")):
        before = EpisodeDataset(out).description
        for key, value in json.loads(json.dumps(description)).items():
            # The first version of the format said less.
            if before.get(key) != value and (key in before or before["schema_version"] != 1):
                held, asked = _short(before.get(key)), _short(value)
                differ = f"{held}, not {asked}" if held != asked else f"{held} and other entries behind it"
                raise DatasetError(f"{out} holds a collection with {key} {differ}; choose another --out or delete it")


def _short(value: Any) -> str:
    # A list of sources has an entry for every episode.
    text = str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


@contextmanager
def all_or_nothing(out: Path, description: dict[str, Any]) -> Iterator[Path]:
    """A folder beside ``out`` to write shards into. They get to ``out`` together at the end, or not at all; those that it holds stay.

    Raises:
        DatasetError: ``out`` holds another collection.
    """
    _refuse_another(out, description)
    out.parent.mkdir(parents=True, exist_ok=True)
    staging = out.with_name(f".{out.name}.{os.getpid()}")
    shutil.rmtree(staging, ignore_errors=True)
    write_description(staging, description)
    try:
        yield staging
        if out.exists():
            write_description(out, description)
            for shard in sorted(staging.glob("shard-*")):
                if not (out / shard.name).is_dir():
                    shard.rename(out / shard.name)
        else:
            staging.rename(out)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
