"""Two processes with half of the windows each learn what one process learns from all of them, and a run knows how many it had."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file
from tiny_runs import silent, tiny_config, tiny_data

from world_model.checkpoint import CheckpointError
from world_model.config import ConfigError
from world_model.training import train
from world_model.training.world_model import check_shares

REPOSITORY = Path(__file__).resolve().parents[1]
CHANGES = {
    "jepa": {"steps": 20, "batch": 6, "augmentation": {"brightness": 0.3, "hue": 0.1, "noise": 0.02, "shift": 1}},
    "distance": {"steps": 2},
    "actor": {"steps": 2},
}


def in_two_processes(data: Path, out: Path, changes: dict[str, object]) -> subprocess.CompletedProcess[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--standalone"]
    return subprocess.run(
        [*torchrun, str(REPOSITORY / "tests" / "train_in_many.py"), str(data), str(out), json.dumps(changes)],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "ros_ws/src/latent_mpc"), str(REPOSITORY / "tests")])},
        capture_output=True,
        text=True,
        timeout=300,
    )


def rows(out: Path) -> list[dict[str, float]]:
    with (out / "log.csv").open() as lines:
        return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(lines)]


@pytest.fixture(scope="module")
def both(tmp_path_factory) -> tuple[Path, Path, Path]:
    """The data, and where one process and two processes trained on them."""
    data, folder = tiny_data(tmp_path_factory.getbasetemp()), tmp_path_factory.mktemp("processes")
    train(tiny_config(**CHANGES), [data], folder / "one", silent)
    ended = in_two_processes(data, folder / "two", CHANGES)
    assert ended.returncode == 0, ended.stderr
    return data, folder / "one", folder / "two"


def test_two_processes_learn_what_one_does_on_the_union_of_their_batches(both):
    _, one, two = both
    alone, together = rows(one), rows(two)
    assert [row["step"] for row in alone] == [row["step"] for row in together] == [20]
    for a, b in zip(alone, together, strict=True):
        for key in ("loss", "next", "rollout", "penalty", "rank", "gradient", "rate"):
            assert b[key] == pytest.approx(a[key], rel=2e-3), key
    first, second = load_file(one / "jepa.safetensors"), load_file(two / "jepa.safetensors")
    assert first.keys() == second.keys()
    for key in (key for key in first if "running" in key):
        assert np.allclose(first[key], second[key], rtol=2e-3, atol=2e-3), key


def test_a_run_of_two_processes_does_not_go_on_in_one(both):
    data, _, two = both
    with pytest.raises(CheckpointError, match=r"compute.batch of a process was 3, not 6") as caught:
        train(tiny_config(**CHANGES), [data], two, silent)
    assert "\n" not in str(caught.value)


def test_windows_that_cannot_be_shared_out_are_one_line():
    with pytest.raises(ConfigError, match=r"jepa.batch is 6, must be a multiple of the number of processes, 4"):
        check_shares(tiny_config(**CHANGES), 4)
