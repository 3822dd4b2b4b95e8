"""Joint positions beside the picture: what is known counts, what is unknown is said to be, from the data to the bundle."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_runs import silent, tiny_config, tiny_data

from arm_model import load_arm
from world_model.bundle import BundleError, read_manifest, write_manifest
from world_model.data import DatasetError
from world_model.encoders.proprioception import Proprioception
from world_model.export import ExportError, export_bundle, load_run
from world_model.protocol import Context
from world_model.recent_joints import RecentJoints
from world_model.runtime import OnnxModel
from world_model.training import build, open_episodes, train

JOINTS, DIM = 4, 6
MS = 1_000_000


def module() -> Proprioception:
    torch.manual_seed(0)
    made = Proprioception(JOINTS, DIM)
    torch.nn.init.normal_(made.unknown)
    made.measure(torch.tensor([1.0, 2.0, 3.0, 4.0]) + 0.5 * torch.randn(7, 9, JOINTS))
    return made.eval()


# The module.


def test_joints_are_measured_in_deviations_of_the_data():
    made, rng = Proprioception(2, DIM), np.random.default_rng(0)
    data = rng.normal([1.0, -2.0], [0.5, 1e-6], (50, 20, 2)).astype(np.float32)
    data[3, 4] = np.nan
    made.measure(torch.from_numpy(data))
    assert np.allclose(made.mean, np.nanmean(data, (0, 1)), atol=1e-4)
    assert made.std[0] == pytest.approx(np.nanstd(data[..., 0]), rel=1e-3)
    assert made.std[1] == pytest.approx(0.01), "a joint that stands still is not magnified"
    for wrong in (torch.full((5, 2), torch.nan), torch.zeros(5, 3)):
        with pytest.raises(ValueError, match="known positions of") as caught:
            made.measure(wrong)
        assert "\n" not in str(caught.value)


def test_known_rows_pass_the_network_and_unknown_ones_have_an_embedding():
    made, joints = module(), torch.randn(5, JOINTS)
    joints[1] = torch.nan
    joints[3, 2] = torch.nan
    with torch.no_grad():
        added = made(joints)
        normal = (joints[0] - made.mean) / made.std
        inner = made.network[0].weight @ normal + made.network[0].bias
        expected = made.network[2].weight @ (inner * 0.5 * (1 + torch.erf(inner / 2**0.5))) + made.network[2].bias
    assert torch.allclose(added[0], expected, atol=1e-5)
    assert torch.equal(added[1], made.unknown) and torch.equal(added[3], made.unknown)
    assert not torch.allclose(added[0], added[2])


def test_in_training_every_other_row_is_taken_as_unknown_and_nothing_becomes_nan():
    made, joints = module().train(), torch.randn(4000, JOINTS)
    joints[::4] = torch.nan
    added = made(joints)
    dropped = (added == made.unknown).all(1)
    assert dropped[::4].all() and 0.45 < dropped[1::4].float().mean() < 0.55
    added.square().sum().backward()
    assert all(p.grad.isfinite().all() and p.grad.abs().max() > 0 for p in made.parameters())
    assert torch.equal(made.eval()(joints), made(joints)), "only in training"


def test_joints_change_every_token_of_a_latent_and_unknown_ones_none():
    encoder = {"kind": "vit", "size": 16, "width": 8, "depth": 1, "heads": 1, "tokens": "pooled"}
    config = tiny_config(model={"latent_dim": DIM, "proprioception": True, "encoder": encoder, "predictor": {"width": 8}})
    jepa = build(config, (64, 64, 3), 3, JOINTS).jepa.eval()
    torch.nn.init.normal_(jepa.proprioception.unknown)
    frames, joints = torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8), torch.randn(2, JOINTS)
    with torch.no_grad():
        unknown, known, other = jepa.encode(frames), jepa.encode(frames, joints), jepa.encode(frames, joints + 1)
        assert torch.equal(unknown, jepa.encode(frames, torch.full_like(joints, torch.nan)))
        for change in (known - unknown, other - known):
            assert ((change.view(2, 4, DIM)).abs().amax(-1) > 1e-4).all()
        plain = build(tiny_config(), (64, 64, 3), 3).jepa.eval()
        assert torch.equal(plain.encode(frames), plain.encode(frames, joints)), "a model without proprioception ignores them"


# Training, bundle, runtime.


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("proprioception") / "run"
    short = {"jepa": {"steps": 4, "batch": 4, "average": 0.5}, "distance": {"steps": 2}, "actor": {"steps": 2}}
    train(tiny_config(**short, model={"proprioception": True, "latent_dim": DIM}), [tiny_data(tmp_path_factory.getbasetemp())], folder, silent)
    return folder


@pytest.fixture(scope="module")
def bundle(run, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("proprioception") / "bundle"
    assert max(export_bundle(run, folder, load_arm().joints).values()) < 1e-4
    return folder


def test_training_measures_the_joints_of_the_episodes_that_train(run, tmp_path_factory):
    jepa = load_run(run)[1].jepa
    joints = open_episodes([tiny_data(tmp_path_factory.getbasetemp())], 2).joints[:-2].reshape(-1, 7)
    assert np.allclose(jepa.proprioception.mean, joints.mean(0), atol=1e-4)
    assert np.allclose(jepa.proprioception.std, np.maximum(joints.std(0), 0.01), atol=1e-4)


def test_a_bundle_is_told_joints_or_that_they_are_unknown(bundle):
    model, rng = OnnxModel(bundle), np.random.default_rng(0)
    assert model.manifest.proprioception == 7 == len(model.manifest.joints)
    frames, joints = rng.integers(0, 256, (3, 64, 64, 3), dtype=np.uint8), np.tile(load_arm().home.astype(np.float32), (3, 1))
    unknown = model.encode(frames)
    assert np.array_equal(unknown, model.encode(frames, np.full_like(joints, np.nan)))
    assert np.abs(model.encode(frames, joints) - unknown).min(0).max() > 1e-3
    some = joints.copy()
    some[1] = np.nan
    assert np.allclose(model.encode(frames, some)[1], unknown[1], atol=1e-5)
    assert np.array_equal(model.encode(frames, joints.astype(np.float64)), model.encode(frames, joints))
    with pytest.raises(ValueError, match=r"takes joints of shape \(3, 7\) with these pictures, not \(3, 6\)"):
        model.encode(frames, joints[:, :6])


def test_a_model_of_another_arm_is_not_exported(run, tmp_path):
    with pytest.raises(ExportError, match=r"was trained with 7 joints, the arm has 2: shoulder, elbow"):
        export_bundle(run, tmp_path / "bundle", ("shoulder", "elbow"))
    assert not (tmp_path / "bundle").exists()


@pytest.mark.parametrize(("change", "reason"), [({"proprioception": 3}, "told 3 joints, of which 7"), ({"tokens": 4}, "made of 4 tokens")])
def test_a_manifest_that_contradicts_itself_is_refused(bundle, change, reason, tmp_path):
    shutil.copytree(bundle, tmp_path / "bundle")
    with pytest.raises(BundleError, match=reason):
        write_manifest(tmp_path / "bundle", replace(read_manifest(bundle), **change))


def test_a_graph_without_joints_is_refused_where_the_manifest_has_them(bundle, tmp_path):
    shutil.copytree(bundle, tmp_path / "bundle")
    shutil.copy(bundle / "heads.onnx", tmp_path / "bundle" / "encoder.onnx")
    write_manifest(tmp_path / "bundle", read_manifest(bundle))
    with pytest.raises(BundleError, match=r"encoder.onnx: '\w+' has shape"):
        OnnxModel(tmp_path / "bundle")


def test_data_without_joints_are_one_line(tmp_path_factory, tmp_path, monkeypatch):
    data = open_episodes([tiny_data(tmp_path_factory.getbasetemp())], 2)
    monkeypatch.setattr("world_model.training.run.open_episodes", lambda directories, held_out: replace(data, joints=None))
    with pytest.raises(DatasetError, match=r"model\.proprioception is true, but the data hold no joint positions") as caught:
        train(tiny_config(model={"proprioception": True}), [tmp_path], tmp_path / "run", silent)
    assert "\n" not in str(caught.value) and not (tmp_path / "run").exists()


def test_a_context_some_steps_later_ends_with_what_came_last():
    rng = np.random.default_rng(0)
    context = Context(rng.random((2, 3, 4), np.float32), rng.random((2, 2, 2), np.float32))
    actions, latents = rng.random((2, 5, 2), np.float32), rng.random((2, 5, 4), np.float32)
    stepped = context
    for step in range(5):
        stepped = stepped.extended(actions[:, step], latents[:, step])
        later = context.after(actions[:, : step + 1], latents[:, : step + 1])
        assert np.array_equal(later.latents, stepped.latents) and np.array_equal(later.actions, stepped.actions)


def test_plans_longer_than_a_pass_roll_on_in_the_runtime(tmp_path, tmp_path_factory):
    short = {"jepa": {"steps": 2, "batch": 2}, "distance": {"steps": 2}, "actor": {"steps": 2}}
    predictor = {"kind": "action_prefix", "width": 8, "depth": 1, "heads": 2, "horizon": 2}
    train(tiny_config(**short, model={"predictor": predictor}), [tiny_data(tmp_path_factory.getbasetemp())], tmp_path / "run", silent)
    export_bundle(tmp_path / "run", tmp_path / "bundle", load_arm().joints)
    model, jepa, rng = OnnxModel(tmp_path / "bundle"), load_run(tmp_path / "run")[1].jepa, np.random.default_rng(0)
    assert model.manifest.horizon == 2
    for horizon in (1, 2, 5):
        arrays = [rng.standard_normal(shape).astype(np.float32) for shape in ((4, 3, model.latent_dim), (4, 2, 3), (4, horizon, 3))]
        with torch.no_grad():
            expected = jepa.rollout(*map(torch.from_numpy, arrays)).numpy()
        assert np.abs(model.rollout(Context(*arrays[:2]), arrays[2]) - expected).max() < 1e-4


# Where the joints were when a picture was taken.


def test_the_newest_positions_not_after_a_picture_count():
    recent = RecentJoints(2, tolerance_s=0.05)
    assert np.isnan(recent.at(5)).all()
    for stamp in range(0, 100, 10):
        recent.add(stamp * MS, np.array([stamp, -stamp], np.float64))
    assert recent.at(35 * MS).tolist() == [30.0, -30.0] and recent.at(40 * MS).tolist() == [40.0, -40.0]
    assert recent.at(35 * MS).dtype == np.float32
    assert recent.at(140 * MS).tolist() == [90.0, -90.0]
    assert np.isnan(recent.at(141 * MS)).all(), "too old"
    assert np.isnan(recent.at(-1)).all(), "the future does not count"


def test_a_clock_that_goes_back_starts_anew_and_memory_ends():
    recent = RecentJoints(1, tolerance_s=10.0)
    for stamp in (9000, 9010, 20):
        recent.add(stamp * MS, np.array([stamp]))
    assert recent.at(9500 * MS).tolist() == [20.0]
    for stamp in range(0, 60_000, 10):
        recent.add(stamp * MS, np.array([stamp]))
    assert len(recent._seen) <= 501
