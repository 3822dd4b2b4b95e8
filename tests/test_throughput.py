"""The matrix products of training: counted as torch's own counter does, and run beside real steps."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
import torch
import yaml
from latent_mpc.cli import run
from tiny_runs import SETTINGS, tiny_config, tiny_data
from torch import nn
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from world_model.training.throughput import MatrixProducts, bare_loop, measure_throughput


@pytest.mark.parametrize(
    ("network", "shape"),
    [
        (nn.Conv2d(3, 5, 4, stride=2, padding=1), (7, 3, 12, 10)),
        (nn.Sequential(nn.Linear(6, 4), nn.GELU(), nn.Linear(4, 3, bias=False)), (7, 6)),
        (nn.Linear(6, 4), (7, 2, 6)),
    ],
    ids=["convolution", "linear", "tokens"],
)
def test_products_are_counted_as_torch_counts_them(network, shape):
    def work() -> None:
        network(torch.rand(shape, requires_grad=True)).sum().backward()

    with MatrixProducts() as products:
        work()
    with FlopCounterMode(display=False) as counter:
        work()
    assert products.flop == counter.get_total_flops()


def test_a_convolution_is_the_product_of_its_unfolded_input():
    with MatrixProducts() as products, torch.no_grad():
        functional.conv2d(torch.rand(2, 3, 8, 8), torch.rand(5, 3, 4, 4), stride=2, padding=1)
    unfolded = functional.unfold(torch.rand(2, 3, 8, 8), 4, stride=2, padding=1)  # (2, 48, 16)
    assert products.counts == {(1, unfolded.shape[0] * unfolded.shape[2], unfolded.shape[1], 5): 1}


def test_attention_is_two_products_forward():
    query, key, value = (torch.rand(2, 3, n, 8) for n in (4, 6, 6))
    with MatrixProducts() as products, torch.no_grad():
        functional.scaled_dot_product_attention(query, key, value)
    assert products.flop == pytest.approx(2 * 2 * (2 * 3 * 4 * 6 * 8))


def test_the_bare_loop_is_those_products_and_nothing_else():
    counts = Counter({(1, 4, 5, 6): 2, (3, 2, 7, 2): 1})
    loop = bare_loop(counts, torch.device("cpu"), torch.float32)
    with FlopCounterMode(display=False) as counter:
        loop()
    assert counter.get_total_flops() == 2 * (2 * 4 * 5 * 6 + 3 * 2 * 7 * 2)


def test_real_steps_are_timed_beside_their_products(tmp_path_factory):
    rounds = []
    config = tiny_config(jepa={"augmentation": {"brightness": 0.2}})
    data: Path = tiny_data(tmp_path_factory.getbasetemp())
    found = measure_throughput(config, [data], 3, lambda done, of: rounds.append((done, of)))
    assert rounds == [(1, 3), (2, 3), (3, 3)]
    assert found.gflop == pytest.approx(found.counted_gflop, rel=1e-9)
    result = found.to_json()
    assert result["frames_per_step"] == 4 * 5
    assert 0 < result["ratio_to_roof"] < 1.5, "the loop is only a part of what a step does"
    assert result["gflops"] * found.step_s == pytest.approx(result["roof_gflops"] * found.roof_s)


def test_the_command_says_frames_per_second_and_the_share_of_the_roof(tmp_path, tmp_path_factory, capsys):
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(SETTINGS))
    data = tiny_data(tmp_path_factory.getbasetemp())
    arguments = ["--config", str(tmp_path / "tiny.yaml"), "--data", str(data), "--rounds", "2", "--json", str(tmp_path / "found.json")]
    assert run(["bench-training", *arguments]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert f"{100 * found['ratio_to_roof']:.0f} %" in capsys.readouterr().out
    assert run(["bench-training", *arguments[:2], "--data", str(tmp_path)]) == 2
    assert "holds no dataset.json" in capsys.readouterr().err
