"""docs/parameters.md is what the declarations say."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rclpy")

from latent_mpc.cli import run
from latent_mpc.parameter_page import DECLARED, parameter_page

ROOT = Path(__file__).resolve().parents[1]


def test_the_page_is_current():
    assert (ROOT / "docs" / "parameters.md").read_text() == parameter_page(), "run: latent-mpc parameters --page docs/parameters.md"


def test_every_declaration_in_the_repository_is_on_the_page():
    # The stand-ins of the fault suite are started by it alone.
    application = [file for file in ROOT.glob("ros_ws/src/latent_mpc/latent_mpc/*_node.py") if not file.stem.startswith("faults_")]
    sources = [*ROOT.glob("*/*_node.py"), *application]
    declared = {
        line.split("declare(self, ")[1].split(",")[0].split(")")[0]
        for file in sources
        for line in file.read_text().splitlines()
        if "declare(self, " in line
    }
    assert declared == {entry.parameters.__name__ for entry in DECLARED}


def test_it_says_type_default_range_and_when_it_may_change():
    page = parameter_page()
    assert "| `joint_timeout_s` | double | `0.038` | [0.004, 1] | s without a newer joint state before the arm brakes: " in page
    assert "| `output` | string | `trajectory` | trajectory, velocity, position | which controller is commanded | fixed |" in page


def test_the_command_writes_the_page(tmp_path):
    assert run(["parameters", "--page", str(tmp_path / "page.md")]) == 0
    assert (tmp_path / "page.md").read_text() == parameter_page()
