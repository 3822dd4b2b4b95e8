"""From a training run to a bundle: ONNX Runtime computes what torch computes, and nothing else is overwritten."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_runs import tiny_bundle, tiny_config, tiny_run

from arm_model import ToolStep, load_arm
from world_model.bundle import FILES, BundleError, read_manifest
from world_model.checkpoint import CheckpointError
from world_model.config import parse_config
from world_model.export import ExportError, export_bundle, load_run, parity
from world_model.protocol import Context
from world_model.runtime import OnnxModel
from world_model.untrained import export_untrained


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    return tiny_run(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def bundle(tmp_path_factory) -> Path:
    return tiny_bundle(tmp_path_factory.getbasetemp())


@pytest.fixture(scope="module")
def model(bundle) -> OnnxModel:
    return OnnxModel(bundle)


def context(model: OnnxModel, count: int, seed: int = 0) -> Context:
    rng = np.random.default_rng(seed)
    latents = rng.standard_normal((count, model.history, model.latent_dim)).astype(np.float32)
    return Context(latents, rng.uniform(-1, 1, (count, model.history - 1, model.action_dim)).astype(np.float32))


def actions(model: OnnxModel, count: int, horizon: int) -> np.ndarray:
    return np.random.default_rng(1).uniform(-1, 1, (count, horizon, model.action_dim)).astype(np.float32)


def test_every_graph_computes_what_torch_computes(run, model):
    _, learned, _ = load_run(run)
    report = parity(learned, model, model.history, model.action_dim)
    assert set(report) == {"encoder", "rollout", "heads", "actor"} and max(report.values()) < 1e-4


def test_parity_notices_other_weights(run, model):
    _, learned, _ = load_run(run)
    with torch.no_grad():
        for module in learned.modules().values():
            for parameter in module.parameters():
                parameter += 0.05
    assert min(parity(learned, model, model.history, model.action_dim).values()) > 1e-3


@pytest.mark.parametrize(("count", "horizon"), [(1, 1), (1, 6), (9, 1), (4, 13)])
def test_one_rollout_is_many_steps_whatever_the_number_of_candidates(model, count, horizon):
    now, chosen = context(model, count), actions(model, count, horizon)
    whole = model.rollout(now, chosen)
    assert whole.shape == (count, horizon, model.latent_dim) and whole.dtype == np.float32
    for step in range(horizon):
        after = model.rollout(now, chosen[:, step : step + 1])[:, 0]
        assert np.allclose(whole[:, step], after, atol=1e-4)
        now = now.extended(chosen[:, step], after)


def test_candidates_do_not_influence_each_other(model):
    now, chosen = context(model, 6), actions(model, 6, 4)
    together = model.rollout(now, chosen)
    for row in range(6):
        alone = model.rollout(Context(now.latents[row : row + 1], now.actions[row : row + 1]), chosen[row : row + 1])
        assert np.allclose(together[row], alone[0], atol=1e-5)


def test_what_is_imagined_depends_on_action_and_history(model):
    now, chosen = context(model, 1), actions(model, 1, 1)
    assert not np.allclose(model.rollout(now, chosen), model.rollout(now, -chosen), atol=1e-4)
    older = Context(np.concatenate([now.latents[:, :1] + 1, now.latents[:, 1:]], axis=1), now.actions)
    assert not np.allclose(model.rollout(now, chosen), model.rollout(older, chosen), atol=1e-4)


def test_the_distance_is_one_between_latents(model):
    latents = context(model, 5).latents[:, -1]
    goal = latents[2]
    distances = model.distance(latents, goal)
    assert distances.shape == (5,) and np.all(distances >= 0)
    assert distances[2] < 1e-3 and distances.argmin() == 2
    assert model.distance(goal[None], latents[0])[0] == pytest.approx(distances[0], rel=1e-5)


def test_the_actor_is_asked_only_about_what_it_was_trained_on(model):
    latents, goal = context(model, 2).latents[:, -1], np.ones(model.latent_dim, np.float32)
    least, most = model.manifest.actor_steps
    for asked, means in ((-3.0, least), (1000.0, most), (np.float64(2.5), 2.5)):
        mixture, same = (model.propose(latents, goal, np.full(2, steps)) for steps in (asked, means))
        assert np.array_equal(mixture.mean, same.mean) and np.array_equal(mixture.logits, same.logits)


def test_the_manifest_says_what_the_bundle_is_and_where_it_comes_from(bundle, run):
    manifest = read_manifest(bundle)
    assert manifest.name == "tiny" and manifest.tasks == ("reach",) and manifest.encoder == "convolutional"
    assert manifest.joints == load_arm().joints and manifest.actor_steps == (1, 12)
    assert ToolStep.from_json(manifest.tool_step).action_dim == manifest.action_dim == 3
    assert parse_config(manifest.provenance["config"], "manifest") == tiny_config()
    assert manifest.provenance["episodes"] == 12 and manifest.provenance["data"][0]["task"] == "reach"
    assert sorted(entry.name for entry in bundle.iterdir()) == sorted([*FILES, "manifest.json"])


def test_no_file_of_a_bundle_is_a_pickle(bundle):
    import pickletools

    for name in FILES:
        content = (bundle / name).read_bytes()
        assert content[:2] != b"PK" and content[:1] != b"\x80"
        with pytest.raises(Exception, match=r"."):
            list(pickletools.genops(content))


# What may be overwritten, and what is refused.


def test_an_export_replaces_a_bundle_but_nothing_else(bundle, run, tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years")
    with pytest.raises(BundleError, match="is not a model bundle and would be overwritten") as caught:
        export_bundle(run, precious, load_arm().joints)
    assert (precious / "thesis.txt").read_text() == "years" and "\n" not in str(caught.value)
    with pytest.raises(BundleError, match="would be overwritten"):
        export_bundle(run, precious / "thesis.txt", load_arm().joints)


def test_graphs_that_differ_from_torch_are_not_kept(bundle, run, tmp_path, monkeypatch):
    """A bundle that was there stays as it was."""
    out = tmp_path / "bundle"
    shutil.copytree(bundle, out)
    monkeypatch.setattr("world_model.export._PARITY", 0.0)
    with pytest.raises(ExportError, match=r"differs from torch by .* no bundle was written"):
        export_bundle(run, out, load_arm().joints)
    assert read_manifest(out) == read_manifest(bundle)
    assert [entry.name for entry in tmp_path.iterdir()] == ["bundle"], "no staging folder is left"


def test_a_run_that_is_not_finished_is_refused(tmp_path):
    with pytest.raises(ExportError, match=r"holds no finished training run .* run `latent-mpc train` first"):
        load_run(tmp_path)


@pytest.mark.parametrize("damage", ["garbage", "truncated", "without its configuration"])
def test_a_damaged_run_is_one_line(run, tmp_path, damage):
    from safetensors.torch import load_file, save_file

    file = tmp_path / "learned.safetensors"
    content = (run / "learned.safetensors").read_bytes()
    if damage == "without its configuration":
        save_file(load_file(run / "learned.safetensors"), file)
    else:
        file.write_bytes(b"garbage" if damage == "garbage" else content[: len(content) // 2])
    with pytest.raises(CheckpointError, match=r"learned.safetensors is not a training run") as caught:
        load_run(tmp_path)
    assert "\n" not in str(caught.value)


def test_an_untrained_bundle_has_the_shape_of_its_recipe_and_has_learned_nothing(bundle, model, tmp_path):
    """It goes through the real export; its latents are spread, but other than the trained ones."""
    frames = np.random.default_rng(3).integers(0, 256, (32, *model.manifest.frame), dtype=np.uint8)
    gaps = export_untrained(tiny_config(), model.manifest, frames, tmp_path / "null")
    null = OnnxModel(tmp_path / "null")
    assert max(gaps.values()) < 1e-4 and null.manifest.joints == model.manifest.joints and null.manifest.frame == model.manifest.frame
    assert (null.latent_dim, null.history, null.action_dim) == (model.latent_dim, model.history, model.action_dim)
    seen = null.encode(frames)
    assert np.isfinite(seen).all() and seen.std(0).min() > 1e-3 and np.abs(seen - model.encode(frames)).max() > 0.1
    again = export_untrained(tiny_config(), model.manifest, frames, tmp_path / "again")
    assert again.keys() == gaps.keys() and np.array_equal(OnnxModel(tmp_path / "again").encode(frames), seen), "seeded by the recipe"
