"""`latent-mpc surprise`: the whole way from a bundle to a calibration inside it, with the untrained network beside it."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from latent_mpc.cli import run
from latent_mpc.surprise_evaluation import SurpriseEvaluation, evaluate_surprise, recorded_rows, table
from tiny_runs import tiny_bundle

from world_model.bundle import BundleError, read_manifest, record_surprise
from world_model.protocol import Context
from world_model.runtime import OnnxModel
from world_model.surprise import carried_calibration
from world_model.untrained import untrained


def quiet(stage: str, done: int, of: int, numbers: dict[str, float]) -> None:
    """Reports go nowhere."""


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    bundle = tiny_bundle(tmp_path_factory.getbasetemp())
    return evaluate_surprise(SurpriseEvaluation(bundle, "reach", events=3, runs=6, run_rate=0.2, steps=10), quiet)


def test_a_result_says_what_was_found_and_what_an_untrained_network_finds(result):
    assert list(result["events"]) == ["freeze", "camera"]
    assert result["ordinary"]["frames"] == 6 * (10 - 3) * 4, "four pictures to a step; the first three steps have no score"
    assert result["ordinary"]["contact_frames"] == 0 and result["events"]["freeze"]["auroc_contact"] is None
    for judged in (result, result["null"]):
        for row in judged["events"].values():
            low, high = row["auroc"]["ci95"]
            assert 0 <= low <= row["auroc"]["value"] <= high <= 1 and 0 <= row["detected"] <= 1
        assert judged["calibration"]["threshold"] > 0
    assert result["null"]["calibration"] != result["calibration"], "the null is calibrated on what it sees itself"
    text = table(result)
    assert text.count("\n| ") == 2 and "false alarms in 1000 of 168" in text
    json.dumps(result, allow_nan=False)


def test_a_calibration_is_written_into_the_bundle_and_a_damaged_bundle_gets_none(result, tmp_path, tmp_path_factory):
    bundle = tmp_path / "bundle"
    shutil.copytree(tiny_bundle(tmp_path_factory.getbasetemp()), bundle)
    before = read_manifest(bundle)
    assert before.surprise == {}
    record_surprise(bundle, result["calibration"], recorded_rows(result))
    after = read_manifest(bundle)
    assert {name: value for name, value in vars(after).items() if name != "surprise"} == {k: v for k, v in vars(before).items() if k != "surprise"}
    calibration, why_not = carried_calibration(after.surprise, after.sha256, after.latent_dim)
    assert why_not == "" and calibration.to_json() == result["calibration"] and len(after.surprise["evaluation"]) == 2
    assert [file.name for file in bundle.iterdir() if file.name.startswith(".")] == [], "nothing half-written is left"
    (bundle / "rollout.onnx").write_bytes(b"something else")
    with pytest.raises(BundleError, match="SHA-256"):
        record_surprise(bundle, result["calibration"], [])


def test_the_null_has_the_shape_of_the_bundle_and_other_weights(tmp_path_factory):
    bundle = tiny_bundle(tmp_path_factory.getbasetemp())
    model, rng = OnnxModel(bundle), np.random.default_rng(0)
    frames = rng.integers(0, 255, (40, *model.manifest.frame), dtype=np.uint8)
    null = untrained(model.manifest, frames)
    latents = null.encode(frames)
    assert latents.shape == (40, model.latent_dim) and null.history == model.history
    assert latents.std(axis=0) == pytest.approx(np.ones(model.latent_dim), rel=0.1), "its latents are spread like trained ones"
    assert not np.allclose(latents, model.encode(frames), atol=0.1)
    context = Context(latents[None, : null.history], np.zeros((1, null.history - 1, model.action_dim), np.float32))
    assert null.rollout(context, np.zeros((1, 4, model.action_dim), np.float32)).shape == (1, 4, model.latent_dim)


def test_bad_input_is_one_line_and_status_2(tmp_path, tmp_path_factory, capsys):
    bundle = str(tiny_bundle(tmp_path_factory.getbasetemp()))
    for changes, reason in (
        (("--model", str(tmp_path / "none")), "is not a model bundle"),
        (("--task", "push"), "was trained for reach, not for push"),
        (("--events", "0"), "at least one event"),
        (("--look", "smell"), "unknown look 'smell'"),
        (("--run-rate", "1.5"), "shares between 0 and 1"),
    ):
        asked = {"--model": bundle, "--task": "reach", "--out": str(tmp_path / "out"), **dict([changes])}
        assert run(["surprise", *(word for pair in asked.items() for word in pair)]) == 2
        said = capsys.readouterr().err
        assert reason in said and said.count("\n") == 1
    assert not (tmp_path / "out").exists()
