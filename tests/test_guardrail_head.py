"""Heads from few frames: fitted, calibrated, written, read back without torch, and refused where they do not belong."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from bundles import write_bundle
from latent_mpc.cli import run
from torch import nn

from world_model.bundle import bundle_sha256, read_manifest
from world_model.data import EpisodeDataset, ShardWriter, write_description
from world_model.heads.card import HeadCard, HeadError, read_card
from world_model.heads.choice import choose_frames
from world_model.heads.ensemble import EnsembleConfig, fit_ensemble
from world_model.heads.fit import HeadRequest, fit_head
from world_model.heads.graph import head_graph, write_head
from world_model.heads.guardrail import guardrail_targets
from world_model.heads.labels import LabelError, Labels
from world_model.heads.onnx_head import OnnxHead
from world_model.heads.ranking import auroc
from world_model.heads.split import draw_frames, split_episodes

EPISODES, STEPS = 120, 5
BRIGHT = "tool_x > 0.5"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return write_bundle(tmp_path_factory.mktemp("bundle") / "bundle")


@pytest.fixture(scope="module")
def data(tmp_path_factory, bundle):
    """Episodes whose brightness, all that the bundle's latent sees, is the tool's x: 0 is black and 1 is white."""
    folder = tmp_path_factory.mktemp("data") / "data"
    frame = read_manifest(bundle).frame
    rng = np.random.default_rng(0)
    x = np.clip(rng.uniform(0.2, 0.8, (EPISODES, 1)) + 0.1 * rng.standard_normal((EPISODES, STEPS + 1)), 0, 1)
    frames = np.broadcast_to(np.round(255 * x).astype(np.uint8)[..., None, None, None], (EPISODES, STEPS + 1, *frame))
    state = np.zeros((EPISODES, STEPS + 1, 6), np.float32)
    state[..., 0] = x
    action_dim = read_manifest(bundle).action_dim
    write_description(folder, {"task": "reach", "tool_step": read_manifest(bundle).tool_step, "frame": list(frame), "policy": "test"})
    ShardWriter(folder, 0).write(frames, np.zeros((EPISODES, STEPS, action_dim), np.float32), state)
    return folder


@pytest.fixture(scope="module")
def head(tmp_path_factory, bundle, data):
    out = tmp_path_factory.mktemp("heads") / "bright"
    fit_head(HeadRequest(bundle, data, "guardrail", BRIGHT, out, samples=60, miss_rate=0.1), lambda *_: None)
    return out


def test_a_guardrail_learns_the_rule_and_says_what_it_is(head, bundle, data):
    card = read_card(head)
    assert (card.kind, card.label, card.unit, card.samples, card.miss_rate) == ("guardrail", BRIGHT, "m", 60, 0.1)
    assert card.model_sha256 == bundle_sha256(read_manifest(bundle))
    assert card.auroc is not None and card.auroc > 0.995
    opened = OnnxHead(head, read_manifest(bundle))
    shades = np.repeat(np.array([[40.0], [110.0], [145.0], [215.0]], np.float32), 8, axis=1)
    margins = opened.margins(shades)
    assert margins.shape == (4,) and margins[0] > 0 > margins[2] > margins[3] and np.all(np.diff(margins) < 0)
    np.testing.assert_allclose(margins, opened.values(shades)[:, 0] - np.float32(card.threshold), rtol=0, atol=0)
    assert card.figures["missed"] <= 0.4 * card.figures["trajectories"] and 0 < card.figures["trajectories"] <= 36


def test_the_same_request_gives_the_same_head(tmp_path, head, bundle, data):
    fit_head(HeadRequest(bundle, data, "guardrail", BRIGHT, tmp_path / "again", samples=60, miss_rate=0.1, name="bright"), lambda *_: None)
    assert read_card(tmp_path / "again") == read_card(head)


def test_labels_from_a_file(tmp_path, bundle, data):
    state = EpisodeDataset(data).state()
    lines = ["episode,frame,label"] + [f"{e},{t},{int(state[e, t, 0] > 0.5)}" for e in range(EPISODES) for t in range(0, STEPS + 1, 2)]
    (tmp_path / "labels.csv").write_text("\n".join(lines))
    card = fit_head(HeadRequest(bundle, data, "guardrail", str(tmp_path / "labels.csv"), tmp_path / "h", samples=100, miss_rate=0.2), lambda *_: None)
    assert card.unit == "score" and card.auroc > 0.99
    assert card.figures["test_frames"] == 36 * 3


def test_a_head_of_another_model_is_refused(tmp_path, head):
    other = write_bundle(tmp_path / "other", "push")
    with pytest.raises(HeadError, match="was fitted on another model than 'untrained-push'"):
        OnnxHead(head, read_manifest(other))


def test_a_head_of_a_run_belongs_to_the_bundle_of_that_run(tmp_path, head, bundle):
    manifest = read_manifest(bundle)
    OnnxHead(head, replace(manifest, sha256=dict.fromkeys(manifest.sha256, "0" * 64), provenance={"run_sha256": read_card(head).model_sha256}))


def test_damage_is_said_in_one_line(tmp_path, head):
    for name, spoil in {
        "no graph": lambda f: (f / "head.onnx").unlink(),
        "other graph": lambda f: (f / "head.onnx").write_bytes(b"x"),
        "no card": lambda f: (f / "head.json").write_text("[1]"),
    }.items():
        folder = tmp_path / name.replace(" ", "-")
        folder.mkdir()
        for file in head.iterdir():
            (folder / file.name).write_bytes(file.read_bytes())
        spoil(folder)
        with pytest.raises(HeadError) as caught:
            OnnxHead(folder)
        assert "\n" not in str(caught.value) and str(folder) in str(caught.value)


def test_running_a_head_needs_no_torch(head):
    code = (
        "import sys; sys.modules['torch'] = sys.modules['safetensors'] = None\n"
        "import numpy as np; from world_model.heads.onnx_head import OnnxHead\n"
        "print(OnnxHead(sys.argv[1]).margins(np.zeros((3, 8), np.float32)).shape)"
    )
    result = subprocess.run([sys.executable, "-c", code, str(head)], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "(3,)"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (["--kind", "guard"], "unknown kind of head 'guard'"),
        (["--label", ""], "needs labels"),
        (["--label", "tool_x > 9"], "are safe: a guardrail needs some of both kinds"),
        (["--label", "tool_x + 1"], "is a number, a guardrail needs to know what is forbidden"),
        (["--miss-rate", "0.001"], "needs 999 calibration trajectories with an unsafe frame"),
        (["--miss-rate", "1"], "must lie between 0 and 1"),
        (["--target", "both"], "unknown target 'both'"),
        (["--samples", "0"], "must be at least 1"),
        (["--kind", "depth"], "holds no depth pictures"),
    ],
)
def test_bad_requests_leave_nothing_behind(tmp_path, capsys, bundle, data, changes, says):
    given = {"--kind": "guardrail", "--label": BRIGHT} | dict(zip(changes[::2], changes[1::2], strict=True))
    arguments = ["head", "fit", "--model", str(bundle), "--data", str(data), "--out", str(tmp_path / "h"), "--episodes", "60"]
    assert run([*arguments, *(word for pair in given.items() for word in pair)]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1 and "Traceback" not in error
    assert not list(tmp_path.iterdir())


def test_a_folder_of_something_else_is_left_alone(tmp_path, bundle, data):
    (tmp_path / "mine").write_text("precious")
    with pytest.raises(HeadError, match="would be overwritten"):
        fit_head(HeadRequest(bundle, data, "guardrail", BRIGHT, tmp_path), lambda *_: None)
    assert (tmp_path / "mine").read_text() == "precious"


def test_targets_of_distances_saturate_at_their_median():
    labels = Labels(np.zeros((1, 1)), "margin", "m", "rule")
    np.testing.assert_allclose(guardrail_targets(labels, np.array([-0.3, 0.01, 0.02, 0.4, -0.05])), [-0.05, 0.01, 0.02, 0.05, -0.05])
    with pytest.raises(LabelError, match="all 2 labelled frames are forbidden"):
        guardrail_targets(labels, np.array([-1.0, -2.0]))


def test_few_frames_of_a_curved_boundary():
    """A disc in 2 of 16 dimensions, 200 frames: far better than any straight boundary could be."""
    rng = np.random.default_rng(0)
    points = rng.standard_normal((4000, 16)).astype(np.float32)
    distance = np.linalg.norm(points[:, :2], axis=1) - 1.0
    ensemble = fit_ensemble(
        torch.from_numpy(points),
        torch.from_numpy(points[:200]),
        torch.from_numpy(distance[:200, None].astype(np.float32)),
        EnsembleConfig(weight_decay=2.0, learning_rate=6e-3, steps=200),
        torch.Generator().manual_seed(0),
    )
    with torch.inference_mode():
        scores = ensemble(torch.from_numpy(points[200:]))[:, 0].numpy()
    straight = points[200:] @ np.linalg.lstsq(points[:200], distance[:200], rcond=None)[0]
    assert auroc(-straight, distance[200:] < 0) < 0.7 < 0.9 < auroc(-scores, distance[200:] < 0)


def test_no_episode_does_two_things():
    split = split_episodes(np.arange(50, 150), np.random.default_rng(0))
    together = np.concatenate([split.fit, split.calibration, split.test])
    assert sorted(together) == list(range(50, 150))
    assert (len(split.fit), len(split.calibration), len(split.test)) == (40, 30, 30)


def test_frames_are_drawn_from_the_labelled_ones_without_repetition():
    known = np.random.default_rng(0).random((30, 7)) < 0.5
    rows, columns = draw_frames(known, 60, np.random.default_rng(1))
    assert known[rows, columns].all() and len(set(zip(rows, columns, strict=True))) == 60
    assert len(draw_frames(known, 10_000, np.random.default_rng(1))[0]) == known.sum()


class _Wrong(nn.Module):
    """Adds noise that no graph repeats."""

    def forward(self, latents):
        return latents[:, :1] + (1.0 if torch.onnx.is_in_onnx_export() or torch.compiler.is_exporting() else 0.0)


def test_a_graph_that_differs_from_torch_is_not_written():
    with pytest.raises(HeadError, match="differs from torch"):
        head_graph(_Wrong(), torch.zeros(3, 4))


def test_an_earlier_head_is_replaced_as_a_whole(tmp_path, head):
    card = HeadCard("x", "goal-cost", "rule", "0", 8, "", ("cost",), 1)
    out = tmp_path / "h"
    for name in ("first", "second"):
        write_head(out, (head / "head.onnx").read_bytes(), replace(card, name=name))
    assert read_card(out).name == "second" and sorted(f.name for f in tmp_path.iterdir()) == ["h"]
    with pytest.raises(HeadError, match="only a calibrated guardrail has margins"):
        OnnxHead(out).margins(np.zeros((1, 8), np.float32))


@pytest.mark.parametrize(("kind", "label", "figure"), [("goal-cost", "abs(tool_x - 0.3)", "spearman"), ("probe", "", "network")])
def test_other_kinds(tmp_path, capsys, bundle, data, kind, label, figure):
    arguments = ["head", "fit", "--model", str(bundle), "--data", str(data), "--kind", kind, "--label", label, "--out", str(tmp_path / "h")]
    assert run([*arguments, "--json", str(tmp_path / "h.json")]) == 0
    card = json.loads((tmp_path / "h.json").read_text())
    assert figure in card["figures"]
    if kind == "probe":
        assert card["columns"] == ["tool_x"] and card["figures"]["network"]["tool_r2"] > 0.99
    else:
        assert card["figures"]["spearman"] > 0.97


def test_uncertain_frames_are_those_near_the_boundary():
    """A straight boundary between classes: the second half of the labels lies nearer to it, half of the budget stays uniform, nothing twice."""
    rng = np.random.default_rng(0)
    latents = rng.standard_normal((60, 20, 4)).astype(np.float32)
    labels = Labels(np.where(latents[..., 0] > 0.3, 1.0, -1.0), "class", "", "rule")
    rows, frames = choose_frames(labels, latents, 80, "uncertain", np.random.default_rng(1), torch.Generator().manual_seed(0))
    away = np.abs(latents[rows, frames, 0] - 0.3)
    assert len(set(zip(rows, frames, strict=True))) == 80
    assert away[40:].mean() < 0.6 * away[:40].mean()
    uniform = choose_frames(labels, latents, 80, "uniform", np.random.default_rng(1), torch.Generator())
    np.testing.assert_array_equal(uniform, draw_frames(labels.known, 80, np.random.default_rng(1)))
    alone = Labels(np.ones((60, 20)), "class", "", "rule")
    assert len(choose_frames(alone, latents, 80, "uncertain", np.random.default_rng(1), torch.Generator())[0]) == 80
