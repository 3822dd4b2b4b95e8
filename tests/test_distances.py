"""Temporal distances: what makes each of them one, on worlds whose distances are known."""

from __future__ import annotations

import dataclasses
import hashlib
import math

import numpy as np
import pytest
import torch

from world_model.config import ConfigError, DistanceConfig, parse_config
from world_model.heads import TemporalDistanceHead
from world_model.heads.distance import DISTANCES, build_distance, fit_distance
from world_model.heads.distance_figures import distance_figures
from world_model.heads.fit_contrastive import geometric_steps, info_nce
from world_model.heads.fit_qrl import excess, spread
from world_model.heads.latents import open_latent_model
from world_model.heads.quasimetric import QuasimetricHead


def silent(*_):
    """Reports go nowhere."""


def line_walks(episodes=200, length=21, seed=0):
    """Walks along a line of 30 places, straight on, turning back at its ends; the latent is the place, in two curved coordinates and a constant."""
    rng = np.random.default_rng(seed)
    place = rng.integers(0, 30, (episodes, 1)) + rng.choice([-1, 1], (episodes, 1)) * np.arange(length)
    place = np.abs((place + 29 * 100) % 58 - 29)
    angle = place / 29 * np.pi / 2
    latents = np.stack([3 * np.cos(angle), 3 * np.sin(angle), np.ones_like(angle)], axis=-1)
    return torch.from_numpy(latents.astype(np.float32)), place


def mrn_by_loops(head, x, y):
    """The definition, one number after another."""
    a, b = (head.embed(v).detach().double().numpy() for v in (x, y))
    out = []
    for first, second in zip(a, b, strict=True):
        half = len(first) // 2
        symmetric = math.sqrt(sum((p - q) ** 2 for p, q in zip(first[:half], second[:half], strict=True)) + 1e-8)
        groups = np.split(first[half:] - second[half:], 4)
        out.append(float(head.steps_per_unit) * (symmetric + sum(max(0.0, *(float(v) for v in group)) for group in groups) / 4))
    return np.array(out)


def test_the_quasimetric_is_what_the_paper_says():
    torch.manual_seed(0)
    head = QuasimetricHead(5, 16, 8)
    head.steps_per_unit.fill_(2.5)
    x, y = torch.randn(2, 20, 5)
    np.testing.assert_allclose(head(x, y).detach(), mrn_by_loops(head, x, y), rtol=1e-5)
    assert head(x[:, None], y[None]).shape == (20, 20)


def test_the_quasimetric_obeys_the_triangle_inequality_and_is_not_symmetric():
    torch.manual_seed(1)
    head = QuasimetricHead(5, 16, 8)
    x, y, z = torch.randn(3, 500, 5)
    assert torch.all(head(x, z) <= head(x, y) + head(y, z) + 1e-5)
    assert float(head(x, x).detach().max()) < 1e-3
    assert float((head(x, y) - head(y, x)).detach().abs().max()) > 0.01


def test_qrl_terms_against_closed_forms():
    d = torch.tensor([0.0, 0.5, 1.5, 3.0])
    assert float(excess(d, 0.25)) == pytest.approx((0.25 + 4.0) / 4 - 0.0625)
    expected = np.mean([-10 * np.log1p(np.exp((30 - x) / 10)) for x in d.numpy()])
    assert float(spread(d)) == pytest.approx(float(expected), rel=1e-5)


def test_geometric_steps_have_the_law_that_they_claim():
    room = torch.full((200_000,), 7)
    steps = geometric_steps(room, 0.8, torch.Generator().manual_seed(0))
    law = 0.8 ** np.arange(7)
    law /= law.sum()
    found = np.bincount(steps.numpy(), minlength=8)[1:] / len(steps)
    assert steps.min() == 1 and steps.max() == 7
    np.testing.assert_allclose(found, law, atol=4 * np.sqrt(0.25 / len(steps)))
    assert torch.equal(geometric_steps(torch.ones(9, dtype=torch.long), 0.99, torch.Generator()), torch.ones(9, dtype=torch.long))


def test_info_nce_by_hand():
    logits = torch.tensor([[2.0, 0.0], [1.0, 3.0]])
    rows = (math.log(math.exp(2) + 1) - 2 + math.log(math.e + math.exp(3)) - 3) / 2
    columns = (math.log(math.exp(2) + math.e) - 2 + math.log(1 + math.exp(3)) - 3) / 2
    assert float(info_nce(logits)) == pytest.approx((rows + columns) / 2, rel=1e-6)


@pytest.mark.parametrize("kind", DISTANCES)
def test_every_distance_finds_the_order_of_steps(kind):
    """On fresh walks, also between places that no single walk connects within its length."""
    latents, _ = line_walks()
    fresh, place = line_walks(episodes=100, seed=1)
    config = DistanceConfig(kind=kind, steps=500, batch=96, width=32, embedding_dim=8, learning_rate=3e-3)
    torch.manual_seed(0)
    head = build_distance(config, 3)
    fit_distance(config, head, latents, torch.Generator().manual_seed(1), silent)
    state = np.zeros((*place.shape, 6), np.float32)
    state[..., 3] = place
    figures = distance_figures(head, fresh, state, np.random.default_rng(0), pairs=4000)
    assert figures["block"] > 0.93, figures
    assert figures["steps"] > 0.7, figures
    assert "tool" not in figures


def test_qrl_says_at_most_one_for_a_step_before_it_is_scaled(monkeypatch):
    """The widest quasi-metric under the constraint is the true distance: one step is about one, and twenty are nearly twenty."""
    monkeypatch.setattr("world_model.heads.fit_qrl.scale_to_data", lambda *_: None)
    latents, _ = line_walks()
    config = DistanceConfig(kind="qrl", steps=700, batch=128, width=32, embedding_dim=8, learning_rate=3e-3)
    torch.manual_seed(0)
    head = build_distance(config, 3)
    fit_distance(config, head, latents, torch.Generator().manual_seed(1), silent)
    places = torch.tensor(np.arange(30) / 29 * np.pi / 2, dtype=torch.float32)
    line = torch.stack([3 * places.cos(), 3 * places.sin(), torch.ones(30)], dim=1)
    with torch.inference_mode():
        one, twenty = head(line[:-1], line[1:]), head(line[:-20], line[20:])
    assert float(one.mean()) == pytest.approx(1.0, abs=0.35)
    assert 13 < float(twenty.mean()) < 26


def test_a_scaled_head_counts_steps_at_the_pace_of_the_data():
    latents, _ = line_walks()
    config = DistanceConfig(kind="contrastive", steps=300, batch=64, width=32, embedding_dim=8, learning_rate=3e-3)
    torch.manual_seed(0)
    head = build_distance(config, 3)
    fit_distance(config, head, latents, torch.Generator().manual_seed(1), silent)
    assert distance_figures(head, latents, None, np.random.default_rng(0), pairs=3000)["steps_per_step"] == pytest.approx(1.0, abs=0.25)


def test_the_expectile_head_is_what_it_was():
    """Names of its weights, and the draws of its training: shipped runs and bundles stay what they are."""
    torch.manual_seed(0)
    head = build_distance(DistanceConfig(steps=3, batch=16, width=8, embedding_dim=4), 3)
    assert isinstance(head, TemporalDistanceHead)
    assert list(head.state_dict()) == [f"embed.{layer}.{part}" for layer in (0, 2, 4) for part in ("weight", "bias")]
    latents, _ = line_walks(episodes=5)
    generator = torch.Generator().manual_seed(4)
    config = DistanceConfig(steps=1, batch=16, width=8, embedding_dim=4)
    before = [p.detach().clone() for p in head.parameters()]
    reported = []
    fit_distance(config, head, latents, generator, lambda stage, done, of, numbers: reported.append(numbers["loss"]))
    again = torch.Generator().manual_seed(4)
    episodes = torch.randint(5, (16,), generator=again)
    first, second = torch.randint(21, (2, 16), generator=again)
    old = TemporalDistanceHead(3, 8, 4)
    old.load_state_dict(dict(zip(head.state_dict(), before, strict=True)))
    error = (first - second).abs() - old(latents[episodes, first], latents[episodes, second])
    assert reported == [pytest.approx(float((torch.where(error > 0, 0.3, 0.7) * error**2).mean()), rel=1e-5)]


def test_figures_of_a_perfect_and_of_a_blind_distance():
    latents, place = line_walks(episodes=50)
    state = np.zeros((*place.shape, 6), np.float32)
    state[..., 0] = place
    perfect = distance_figures(
        lambda x, y: (torch.atan2(x[:, 1], x[:, 0]) - torch.atan2(y[:, 1], y[:, 0])).abs() * 29, latents, state, np.random.default_rng(0)
    )
    assert perfect["tool"] > 0.999 and perfect["asymmetry"] < 1e-6
    generator = torch.Generator().manual_seed(0)
    blind = distance_figures(lambda x, y: torch.rand(len(x), generator=generator), latents, state, np.random.default_rng(0))
    assert abs(blind["tool"]) < 0.05 and abs(blind["steps"]) < 0.05


def test_configuration():
    base = {"name": "x", "tasks": ["reach"]}
    assert parse_config({**base, "distance": {"kind": "qrl"}}, "c").distance.kind == "qrl"
    for wrong, says in [
        ({"kind": "euclid"}, "must be one of expectile, qrl, contrastive"),
        ({"kind": "qrl", "embedding_dim": 6}, "multiple of 4"),
        ({"discount": 1.0}, "must lie between 0 and 1"),
        ({"slak": 0.1}, "did you mean"),
    ]:
        with pytest.raises(ConfigError, match=says):
            parse_config({**base, "distance": wrong}, "c")


def test_variants_of_a_bundle_differ_in_the_distance_alone(tmp_path):
    from latent_mpc.compare_distances import Comparison, compare_distances, distances_table
    from tiny_runs import tiny_bundle, tiny_data, tiny_run

    from world_model.bundle import read_manifest
    from world_model.runtime import OnnxModel

    bundle, data = tiny_bundle(tmp_path), tiny_data(tmp_path)
    settings = DistanceConfig(steps=30, batch=32, width=16, embedding_dim=8)
    asked = Comparison(bundle, data, tmp_path / "out", DISTANCES, "reach", 1, (0,), ("cem",), settings=settings)
    result = compare_distances(asked, silent)
    original = read_manifest(bundle).sha256
    assert open_latent_model(tiny_run(tmp_path)).sha256 == read_manifest(bundle).provenance["run_sha256"], "a head of a run fits its bundle"
    latents = np.random.default_rng(0).standard_normal((4, 8)).astype(np.float32)
    seen = set()
    for kind in DISTANCES:
        manifest = read_manifest(tmp_path / "out" / kind)
        assert {name for name in original if original[name] != manifest.sha256[name]} == {"heads.onnx", "weights.safetensors"}
        assert manifest.provenance["distance"] == dataclasses.asdict(dataclasses.replace(settings, kind=kind))
        steps = OnnxModel(tmp_path / "out" / kind).distance(latents, latents[0])
        assert steps.shape == (4,) and abs(steps[0]) < 0.01 < steps[1]
        seen.add(hashlib.sha256(steps.tobytes()).hexdigest())
        assert result["distances"][kind]["success"]["cem"]["success_rate"] in (0.0, 1.0)
    assert len(seen) == 3 and distances_table(result).count("\n") == 4
