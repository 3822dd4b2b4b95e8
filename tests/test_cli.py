"""The command line: exit statuses, one line for bad input, results that are never half-written."""

from __future__ import annotations

import subprocess
import sys

import pytest
from latent_mpc.cli import run
from latent_mpc.json_file import write_json


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["check-bag", "no/such/bag", "--urdf", "x.urdf"], "no bag folder no/such/bag"),
        (["check-bag"], "Missing argument 'bag'"),
        (["fly"], "No such command 'fly'"),
        (["check-bag", "bag", "--urdf", "x", "--loud"], "No such option: --loud"),
    ],
)
def test_bad_input_is_one_line_and_status_2(capsys, arguments, reason):
    assert run(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("latent-mpc: error: ") and captured.err.count("\n") == 1
    assert reason in captured.err


def test_help_is_quick_to_import():
    """Nothing that is slow or optional is imported before a command runs."""
    code = (
        "import sys; from latent_mpc.cli import run; status = run(['--help']);"
        "heavy = {'torch', 'pybullet', 'rclpy', 'onnxruntime', 'pinocchio', 'rosbags', 'numpy'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else status)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert "check-bag" in ended.stdout


def test_a_replay_waits_for_nothing_that_it_does_not_need(tmp_path):
    """Start-up is a part of how much faster than real time a bag is replayed."""
    code = (
        "import sys; import latent_mpc.commands_replay, latent_mpc.offline_replay, latent_mpc.offline_report;"
        "heavy = {'torch', 'pybullet', 'rclpy', 'cv2', 'rich', 'transformers'} & set(sys.modules);"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["bag", "fly"], "No such command 'fly'"),
        (["bag", "info"], "Missing argument 'BAG'"),
        (["bag", "info", "no/such/bag"], "no bag folder no/such/bag"),
        (["bag", "replay", "bag", "--loud"], "No such option: --loud"),
    ],
)
def test_bad_input_to_a_group_of_commands_is_the_same(capsys, arguments, reason):
    """Only the group that is asked for is built."""
    test_bad_input_is_one_line_and_status_2(capsys, arguments, reason)


def test_results_are_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / "deep" / "results.json"
    write_json(path, {"rate": 1.0})
    with pytest.raises(ValueError, match="Out of range float"):
        write_json(path, {"rate": float("nan")})
    assert path.read_text() == '{\n  "rate": 1.0\n}\n'
    assert [entry.name for entry in path.parent.iterdir()] == ["results.json"]


def test_results_that_cannot_be_written_are_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"."):
        write_json(tmp_path / "file" / "results.json", {})
