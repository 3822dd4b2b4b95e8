"""A bundle on disk: what is damaged, missing or of another kind is refused in one line, and running it needs ONNX Runtime alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from bundles import write_bundle

from arm_model import ToolStep, load_arm
from sim.tasks import task_named
from world_model.bundle import FILES, BundleError, bundle_sha256, file_sha256, read_manifest, replacing, write_manifest
from world_model.protocol import Context
from world_model.runtime import OnnxModel


@pytest.fixture
def bundle(tmp_path) -> Path:
    return write_bundle(tmp_path / "bundle", "reach")


def rewrite(bundle: Path, **changes: object) -> None:
    """Change keys of the manifest, or drop those whose value is None."""
    content = json.loads((bundle / "manifest.json").read_text()) | changes
    (bundle / "manifest.json").write_text(json.dumps({key: value for key, value in content.items() if value is not None}))


def assert_refused(bundle: Path, reason: str) -> None:
    with pytest.raises(BundleError, match=reason) as caught:
        OnnxModel(bundle)
    assert "\n" not in str(caught.value) and str(bundle) in str(caught.value)


def test_a_manifest_survives_the_disk(bundle):
    manifest = read_manifest(bundle)
    assert write_manifest(bundle, manifest) == manifest
    assert manifest.frame == (64, 64, 3) and manifest.tasks == ("reach",) and manifest.actor_steps == (1, 20)
    assert manifest.sha256 == {name: file_sha256(bundle / name) for name in FILES}


def test_the_hash_of_a_bundle_changes_with_each_of_its_files(bundle):
    hashes = {bundle_sha256(read_manifest(bundle))}
    manifest = read_manifest(bundle)
    for name in FILES:
        (bundle / name).write_bytes(b"other")
        hashes.add(bundle_sha256(write_manifest(bundle, manifest)))
    assert len(hashes) == 1 + len(FILES) and all(len(value) == 64 for value in hashes)


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_was_changed_is_refused(bundle, name):
    with (bundle / name).open("ab") as file:
        file.write(b"\0")
    assert_refused(bundle, f"the SHA-256 of {name} is not the one in its manifest; copy the bundle again or export it anew")


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_is_missing_is_refused(bundle, name):
    (bundle / name).unlink()
    assert_refused(bundle, f"{name} is missing; copy the bundle again")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"schema_version": 2}, "this software reads schema version 1"),
        ({"schema_version": None}, "this software reads schema version 1"),
        ({"history": None}, "history"),
        ({"colour": "red"}, "colour"),
        ({"frame": 64}, "not iterable"),
        ({"sha256": []}, "must be objects"),
        ({"latent_dim": 9}, r"encoder.onnx: 'latents' has shape .* the manifest says \(\*, 9\)"),
        ({"history": 4}, r"rollout.onnx: 'latents' has shape"),
        ({"action_dim": 2}, r"rollout.onnx: 'past_actions' has shape"),
        ({"frame": [32, 64, 3]}, r"encoder.onnx: 'frames' has shape .* the manifest says \(\*, 32, 64, 3\)"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(bundle, change, reason):
    rewrite(bundle, **change)
    assert_refused(bundle, reason)


@pytest.mark.parametrize("text", ["{", "[]", "null", "\udcff"])
def test_a_manifest_that_is_no_json_object_is_refused(bundle, text):
    (bundle / "manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert_refused(bundle, "manifest.json")


def test_a_bundle_that_cannot_be_replaced_comes_back(bundle, monkeypatch):
    """The disk fails between the two renamings."""
    before, rename = read_manifest(bundle), Path.rename

    def fails(path, target):
        if target == bundle and not path.name.endswith(".old"):
            raise OSError("the disk is full")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", fails)
    with pytest.raises(OSError, match="the disk is full"), replacing(bundle) as staging:
        (staging / "manifest.json").write_text("{}")
    assert read_manifest(bundle) == before and [entry.name for entry in bundle.parent.iterdir()] == [bundle.name]


def test_a_folder_that_is_no_bundle_is_refused(tmp_path):
    assert_refused(tmp_path, "is not a model bundle: it holds no manifest.json")
    assert_refused(tmp_path / "gone", "is not a model bundle")


@pytest.mark.parametrize("content", [b"", b"this is no graph"])
def test_a_graph_that_cannot_be_run_is_refused_even_with_the_right_hash(bundle, content):
    (bundle / "heads.onnx").write_bytes(content)
    rewrite(bundle, sha256={name: file_sha256(bundle / name) for name in FILES})
    assert_refused(bundle, "heads.onnx cannot be run")


def test_graphs_that_are_exchanged_are_refused(bundle):
    (bundle / "heads.onnx").write_bytes((bundle / "encoder.onnx").read_bytes())
    rewrite(bundle, sha256={name: file_sha256(bundle / name) for name in FILES})
    assert_refused(bundle, "heads.onnx: 'latents' has shape|heads.onnx: 'goal' has shape None")


@pytest.mark.parametrize(
    "frames",
    [np.zeros((1, 32, 32, 3), np.uint8), np.zeros((1, 64, 64, 3), np.float32), np.zeros((64, 64, 3), np.uint8), np.zeros((1, 64, 64, 1), np.uint8)],
)
def test_pictures_of_another_shape_or_type_are_refused(bundle, frames):
    with pytest.raises(ValueError, match="the model takes 64 x 64 x 3 uint8 pictures, not") as caught:
        OnnxModel(bundle).encode(frames)
    assert "\n" not in str(caught.value)


def test_candidates_and_horizon_are_free(bundle):
    model = OnnxModel(bundle)
    for count, horizon in ((1, 1), (3, 5), (7, 2)):
        context = Context(np.zeros((count, 3, 8), np.float32), np.zeros((count, 2, 3), np.float32))
        assert model.rollout(context, np.zeros((count, horizon, 3), np.float32)).shape == (count, horizon, 8)
    assert model.encode(np.zeros((4, 64, 64, 3), np.uint8)).shape == (4, 8)


def test_running_a_bundle_imports_neither_torch_nor_transformers_nor_a_simulator(bundle):
    code = f"""
import sys
import numpy as np
import world_model.bundle, world_model.protocol
from world_model.runtime import OnnxModel
OnnxModel({str(bundle)!r}).encode(np.zeros((1, 64, 64, 3), np.uint8))
heavy = {{"torch", "transformers", "safetensors", "pybullet", "rclpy", "pickle5", "onnx"}} & set(sys.modules)
sys.exit(f"imported {{heavy}}" if heavy else 0)
"""
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


MODELS = Path(__file__).resolve().parents[1] / "models"


@pytest.mark.parametrize("name", ["reach", "push"])
def test_a_shipped_bundle_is_whole_and_means_by_an_action_what_its_tasks_do(name):
    model = OnnxModel(MODELS / name)
    assert model.manifest.name == name and model.manifest.joints == load_arm().joints
    for task in map(task_named, model.manifest.tasks):
        assert ToolStep.from_json(model.manifest.tool_step) == task.tool_step
        assert model.manifest.frame == (task.camera.height, task.camera.width, 3)
    picture = np.random.default_rng(0).integers(0, 256, (1, *model.manifest.frame), dtype=np.uint8)
    latent = model.encode(picture)
    assert np.isfinite(latent).all() and model.distance(latent, latent[0])[0] < 0.1
