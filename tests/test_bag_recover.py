"""What a killed recorder, a full disk or a damaged disk left behind."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from latent_mpc.bags.info import summarize
from latent_mpc.bags.reader import BagReader
from latent_mpc.bags.recover import recover
from latent_mpc.bags.storage import BagError
from latent_mpc.cli import run
from mcap.writer import CompressionType
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import CompressionMode, StoragePlugin
from test_bag_reading import CHANNELS, humble, noise, raw, stays_as_it_is, write, write_mcap


@pytest.mark.parametrize("compression", [CompressionMode.NONE, CompressionMode.STORAGE, CompressionMode.MESSAGE, CompressionMode.FILE])
def test_of_a_file_that_is_cut_off_every_whole_message_is_saved(tmp_path, compression):
    written = write(tmp_path / "bag", compression=compression, count=2000)
    (file,) = (tmp_path / "bag").glob("*.mcap*")
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 2 // 3])
    (tmp_path / "bag" / "metadata.yaml").unlink()
    before = stays_as_it_is(tmp_path / "bag")
    made = recover(tmp_path / "bag", tmp_path / "new")
    saved = raw(tmp_path / "new")
    assert saved == written[: len(saved)] and len(written) // 2 < len(saved) < len(written)
    assert made.messages == len(saved) == sum(made.topics.values())
    assert made.files[0].trouble and made.files[0].messages == len(saved)
    assert stays_as_it_is(tmp_path / "bag") == before
    with BagReader(tmp_path / "new") as reader:
        assert not reader.troubles and reader.folder.custom == {"recovered_from": str(tmp_path / "bag")}
        assert reader.channels[0].qos[0].durability == "transient_local"
        assert reader.decode(next(iter(reader.raw({"/word"})))).data == "once"
    with AnyReader([tmp_path / "new"]) as other:  # somebody else's reader finds the same bytes: none is compressed by itself
        assert sorted(bytes(data) for _, _, data in other.messages()) == sorted(data for _, _, data in saved)


def test_a_damaged_chunk_costs_only_what_is_in_it(tmp_path):
    entries = noise(300, jumps=False)
    with (tmp_path / "some.mcap").open("wb") as file:
        write_mcap(file, entries, chunk_size=2000, compression=CompressionType.NONE)
    content = bytearray((tmp_path / "some.mcap").read_bytes())
    struck = entries[150][2]
    content[content.index(struck) + len(struck) // 2] ^= 0xFF
    (tmp_path / "some.mcap").write_bytes(content)
    with pytest.raises(BagError, match="checksum of a chunk is wrong; `latent-mpc bag recover` saves the rest"):
        raw(tmp_path / "some.mcap")
    made = recover(tmp_path / "some.mcap", tmp_path / "new")
    assert made.files[0].trouble == "1 of its chunks are damaged"
    expected = [(CHANNELS[channel][0], time_ns, data) for channel, time_ns, data in entries]
    saved = raw(tmp_path / "new")
    assert 270 < len(saved) < 300 and all(entry in expected for entry in saved)
    assert expected[150] not in saved and saved[0] == expected[0] and saved[-1] == expected[-1]


KILLED = """
import os, signal, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA journal_mode=" + sys.argv[2])
connection.execute("PRAGMA cache_size=5")
connection.execute("PRAGMA wal_autocheckpoint=0")
for rows in (500, 500, 500):
    connection.execute("BEGIN")
    for _ in range(rows):
        connection.execute("INSERT INTO messages (topic_id, timestamp, data) VALUES (1, ?, ?)", (1_800_000_000_000_000_000, bytes(1000)))
    if sys.argv[3] == "in the middle" and rows == 500 and connection.execute("SELECT COUNT(*) FROM messages").fetchone()[0] > 1500:
        break
    connection.execute("COMMIT")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize(("journal", "left"), [("wal", "-wal"), ("delete", "-journal")])
def test_a_killed_sqlite_recorder_loses_only_its_last_transaction(tmp_path, journal, left):
    written = humble(tmp_path / "run")
    (tmp_path / "run" / "metadata.yaml").unlink()
    file = tmp_path / "run" / "run_0.db3"
    ended = subprocess.run([sys.executable, "-c", KILLED, str(file), journal, "in the middle"])
    assert ended.returncode == -signal.SIGKILL
    assert (tmp_path / "run" / f"run_0.db3{left}").stat().st_size > 0
    before = stays_as_it_is(tmp_path / "run")
    made = recover(tmp_path / "run", tmp_path / "new")
    assert made.messages == len(written) + 1 + 1000
    assert raw(tmp_path / "new")[1 : len(written) + 1] == written
    assert raw(tmp_path / "run")[1 : len(written) + 1] == written
    assert stays_as_it_is(tmp_path / "run") == before


def test_a_damaged_page_of_sqlite_costs_what_is_near_it(tmp_path):
    written = write(tmp_path / "bag", storage=StoragePlugin.SQLITE3, count=400)
    file = tmp_path / "bag" / "bag.db3"
    content = bytearray(file.read_bytes())
    page = int.from_bytes(content[16:18], "big")
    middle = len(content) // 2 // page * page
    content[middle : middle + page] = b"\xff" * page
    file.write_bytes(content)
    made = recover(tmp_path / "bag", tmp_path / "new")
    saved = raw(tmp_path / "new")
    assert "SQLite says" in made.files[0].trouble
    assert 0.9 * len(written) < len(saved) < len(written) and set(saved) <= set(written)
    assert {written[0], written[-1]} <= set(saved)


def test_what_cannot_be_recovered_leaves_nothing(tmp_path, capsys):
    (tmp_path / "bag").mkdir()
    (tmp_path / "bag" / "bag_0.mcap").write_bytes(b"\x89MCAP0\r\n")
    (tmp_path / "full").mkdir()
    for arguments, reason in (
        ([str(tmp_path / "bag"), "--out", str(tmp_path / "new")], "not one message can be read of"),
        ([str(tmp_path / "nowhere"), "--out", str(tmp_path / "new")], "no bag folder"),
        ([str(tmp_path / "bag"), "--out", str(tmp_path / "full")], "exists already"),
    ):
        assert run(["bag", "recover", *arguments]) == 2
        assert reason in capsys.readouterr().err.strip().splitlines()[-1]
    assert not (tmp_path / "new").exists()


def test_a_disk_that_is_full_leaves_nothing_half_written(tmp_path):
    write(tmp_path / "bag", count=2000)
    code = "import resource, sys; from latent_mpc.cli import run; "
    code += "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000)); sys.exit(run(sys.argv[1:]))"
    arguments = ["bag", "recover", str(tmp_path / "bag"), "--out", str(tmp_path / "new")]
    ended = subprocess.run([sys.executable, "-c", code, *arguments], capture_output=True, text=True, timeout=60)
    assert ended.returncode != 0 and "Traceback" not in ended.stderr and "File too large" in ended.stderr, ended.stderr
    assert not (tmp_path / "new").exists()


def some_files(folder):
    for number, options in enumerate([{"chunk_size": 2000}, {"use_chunking": False}, {"chunk_size": 2000, "compression": CompressionType.NONE}]):
        with (folder / f"{number}.mcap").open("wb") as file:
            write_mcap(file, noise(60), **options)
    write(folder / "lite", storage=StoragePlugin.SQLITE3, count=20)
    shutil.move(folder / "lite" / "lite.db3", folder / "3.db3")
    return [folder / "0.mcap", folder / "1.mcap", folder / "2.mcap", folder / "3.db3"]


def test_whatever_is_damaged_nothing_but_one_line_is_said(tmp_path):
    """Bytes that were struck anywhere, often in indexes and heads: what can be read is read, all else is a BagError."""
    files = some_files(tmp_path)
    contents = [file.read_bytes() for file in files]
    draw = np.random.default_rng(3)
    refused = 0
    for attempt in range(160):
        file, content = files[attempt % 4], bytearray(contents[attempt % 4])
        for _ in range(draw.integers(1, 6)):
            near_end = draw.random() < 0.5
            struck = len(content) - 1 - int(draw.integers(0, 900)) if near_end else int(draw.integers(8, len(content)))
            content[struck] = int(draw.integers(0, 256))
        file.write_bytes(content if draw.random() < 0.7 else content[: draw.integers(1, len(content))])
        for use in (raw, summarize, lambda file: recover(file, tmp_path / "new")):
            try:
                use(file)
            except BagError as error:
                refused += 1
                assert "\n" not in str(error)
        shutil.rmtree(tmp_path / "new", ignore_errors=True)
    assert 20 < refused < 400


def test_a_recorder_that_is_killed_loses_at_most_a_second(tmp_path, start_node, ros_context):
    """SIGKILL in the middle of a recording: what is recovered is what was sent, up to at most a second before the end."""
    pytest.importorskip("rclpy")
    from conftest import wait_until
    from rclpy.node import Node
    from sensor_msgs.msg import JointState

    node = Node("killer")
    publisher = node.create_publisher(JointState, "/joint_states", 500)
    process = start_node("latent_mpc.recorder_node", "-p", "topics:=['/joint_states']", "-p", f"output:={tmp_path / 'bag'}")
    wait_until(lambda: publisher.get_subscription_count() > 0, what="recorder subscribed")
    time.sleep(0.2)
    sent = []
    begins = time.monotonic()
    while time.monotonic() - begins < 2.5:
        sent.append(time.time_ns())
        publisher.publish(JointState(name=["a"], position=[float(len(sent))]))
        time.sleep(0.005)
    killed_ns = time.time_ns()
    process.process.send_signal(signal.SIGKILL)
    process.process.wait()
    node.destroy_node()
    assert not (tmp_path / "bag" / "metadata.yaml").exists()
    assert any("bag recover" in line for line in summarize(tmp_path / "bag").troubles)
    assert run(["bag", "recover", str(tmp_path / "bag"), "--out", str(tmp_path / "new")]) == 0
    with BagReader(tmp_path / "new") as reader:
        saved = [(message.time_ns, reader.decode(message).position[0]) for message in reader.raw()]
    assert [number for _, number in saved] == list(range(1, len(saved) + 1))
    assert all(received >= published for (received, _), published in zip(saved, sent, strict=False))
    # While the machine stood still nobody could send, or write: that was no time for either.
    stood_still_ns = max(np.diff([at_ns for at_ns in sent if at_ns > killed_ns - 2_000_000_000], append=killed_ns))
    assert killed_ns - sent[len(saved) - 1] < 1_000_000_000 + stood_still_ns
