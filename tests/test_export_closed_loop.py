"""Paired episodes in two precisions: who is played, how often, and what is counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from bundles import write_bundle
from latent_mpc.precision_loop import ClosedLoop

from world_model.bundle import bundle_sha256, read_manifest, write_manifest

SUCCESSES = {"fp32": [True, True, False, True], "other": [True, False, True, False]}


@pytest.fixture
def pair(tmp_path) -> tuple[Path, Path]:
    """Two bundles that differ in their weights' file."""
    first, second = write_bundle(tmp_path / "fp32"), write_bundle(tmp_path / "other")
    manifest = read_manifest(second)
    (second / "weights.safetensors").write_bytes(b"others")
    write_manifest(second, manifest)
    return first, second


def test_the_same_episodes_are_counted_one_by_one_and_no_bundle_is_played_twice(pair, tmp_path, monkeypatch):
    played = []

    def evaluate(asked, file, report):
        """Stands for the simulator: outcomes on disk as the real evaluation leaves them."""
        played.append((asked.model.name, asked.task, asked.episodes, asked.seeds, asked.cpu_time, asked.policies))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("".join(json.dumps({"success": success}) + "\n" for success in SUCCESSES[asked.model.name]))
        return {"final_distance_m": {"median": 0.01}}

    monkeypatch.setattr("latent_mpc.precision_loop.evaluate", evaluate)
    loop = ClosedLoop(None, 4, 7, 1, outcomes=tmp_path / "outcomes")
    result = loop(*pair)
    assert (result["success_percent"], result["fp32_success_percent"], result["better"], result["worse"]) == (50.0, 75.0, 1, 2)
    assert result["p"] == 1.0 and result["task"] == "reach" and result["episodes"] == 4, "1 of 3 changed for the better: no evidence"
    loop(*pair)
    assert played == [(name, "reach", 4, (7,), True, ("planner",)) for name in ("fp32", "other")]
    assert len({file.name for file in (tmp_path / "outcomes").iterdir()}) == 2, "outcomes of different bundles lie apart"
    assert len({bundle_sha256(read_manifest(bundle)) for bundle in pair}) == 2


def test_nothing_to_play_is_said():
    with pytest.raises(ValueError, match="at least one episode and one worker"):
        ClosedLoop("reach", 0, 0, 1)
