"""Bags of every storage, version, compression and distribution, written by rosbags, by mcap's own writer and by hand; read by ours."""

from __future__ import annotations

import io
import shutil
import sqlite3

import numpy as np
import pytest
import yaml
from latent_mpc.bag import read_messages, read_topics
from latent_mpc.bags.qos import OfferedQos
from latent_mpc.bags.reader import BagReader
from latent_mpc.bags.storage import BagError, Channel
from latent_mpc.bags.writer import FolderWriter, Format
from mcap.reader import make_reader
from mcap.writer import CompressionType, IndexType
from mcap.writer import Writer as McapLibraryWriter
from rosbags.highlevel import AnyReader
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

START = 1_700_000_000_000_000_000
IMAGE, JOINTS, TEXT = "sensor_msgs/msg/Image", "sensor_msgs/msg/JointState", "std_msgs/msg/String"
FOREVER = QosTime(9223372036, 854775807)
LATCHED = Qos(
    QosHistory.KEEP_LAST, 3, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, FOREVER, FOREVER, QosLiveliness.AUTOMATIC, FOREVER, False
)


def messages(store, count=40):
    """Topic, type, time and message: pictures of noise and joint states in between."""
    draw = np.random.default_rng(1)
    types = store.types
    header = types["std_msgs/msg/Header"]
    stamp = types["builtin_interfaces/msg/Time"]
    for index in range(count):
        time_ns = START + index * 33_000_000
        head = header(stamp=stamp(sec=time_ns // 10**9, nanosec=time_ns % 10**9), frame_id=f"camera {index}")
        pixels = draw.integers(0, 256, 12 * 16 * 3, dtype=np.uint8)
        yield "/picture", IMAGE, time_ns, types[IMAGE](head, 12, 16, "rgb8", 0, 48, pixels)
        yield "/joints", JOINTS, time_ns + 7, types[JOINTS](head, ["a", "b"], draw.normal(size=2), np.empty(0), np.empty(0))
        if index == 3:
            yield "/word", TEXT, time_ns + 9, types[TEXT]("once")


def write(folder, store=Stores.ROS2_KILTED, storage=StoragePlugin.MCAP, version=9, compression=CompressionMode.NONE, count=40):
    types = get_typestore(store)
    writer = Writer(folder, version=version, storage_plugin=storage)
    writer.set_compression(compression, CompressionFormat.ZSTD)
    written = []
    with writer:
        connections = {}
        for topic, msgtype, time_ns, message in messages(types, count):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, msgtype, typestore=types, offered_qos_profiles=[LATCHED])
            data = bytes(types.serialize_cdr(message, msgtype))
            writer.write(connections[topic], time_ns, data)
            written.append((topic, time_ns, data))
    return written


def raw(path, **choice):
    with BagReader(path) as reader:
        return [(message.channel.topic, message.time_ns, message.data) for message in reader.raw(**choice)]


def stays_as_it_is(folder):
    return {file.name: file.read_bytes() for file in folder.iterdir()}


KINDS = [
    (StoragePlugin.SQLITE3, CompressionMode.NONE),
    (StoragePlugin.SQLITE3, CompressionMode.MESSAGE),
    (StoragePlugin.SQLITE3, CompressionMode.FILE),
    (StoragePlugin.MCAP, CompressionMode.NONE),
    (StoragePlugin.MCAP, CompressionMode.MESSAGE),
    (StoragePlugin.MCAP, CompressionMode.FILE),
    (StoragePlugin.MCAP, CompressionMode.STORAGE),
]


@pytest.mark.parametrize(("storage", "compression"), KINDS, ids=lambda value: value.name)
@pytest.mark.parametrize(("version", "store"), [(8, Stores.ROS2_HUMBLE), (9, Stores.ROS2_JAZZY), (9, Stores.ROS2_KILTED)])
def test_whatever_rosbags_writes_is_read(tmp_path, storage, compression, version, store):
    written = write(tmp_path / "bag", store, storage, version, compression)
    assert raw(tmp_path / "bag") == written
    assert read_topics(tmp_path / "bag") == {"/picture": IMAGE, "/joints": JOINTS, "/word": TEXT}
    read = list(read_messages(tmp_path / "bag", ["/joints", "/picture", "/nothing"]))
    expected = [entry for entry in messages(get_typestore(store)) if entry[0] != "/word"]
    assert [entry.time_ns for entry in read] == [time_ns for _, _, time_ns, _ in expected]
    for entry, (_, _, _, message) in zip(read, expected, strict=True):
        assert entry.message.header.frame_id == message.header.frame_id
        field = "data" if entry.topic == "/picture" else "position"
        assert np.array_equal(getattr(entry.message, field), getattr(message, field))
    with BagReader(tmp_path / "bag") as reader:
        assert reader.counts() == {"/picture": 40, "/joints": 40, "/word": 1} and not reader.troubles
        assert reader.span_ns() == (written[0][1], written[-1][1])
        assert {channel.qos for channel in reader.channels} == {(OfferedQos("keep_last", 3, "reliable", "transient_local"),)}


@pytest.mark.parametrize(("storage", "compression"), KINDS, ids=lambda value: value.name)
def test_a_bag_without_metadata_is_rebuilt_from_its_files(tmp_path, storage, compression):
    written = write(tmp_path / "bag", storage=storage, compression=compression)
    (tmp_path / "bag" / "metadata.yaml").unlink()
    before = stays_as_it_is(tmp_path / "bag")
    assert raw(tmp_path / "bag") == written
    (file,) = (tmp_path / "bag").iterdir()
    assert raw(file) == written
    with BagReader(file) as reader:
        assert reader.channels[0].qos[0].durability == "transient_local"
        assert reader.decode(next(iter(reader.raw({"/word"})))).data == "once"
    assert stays_as_it_is(tmp_path / "bag") == before


def humble(folder):
    """As Humble's recorder writes: SQLite without definitions, metadata of version 5, numbers for policies."""
    store = get_typestore(Stores.ROS2_HUMBLE)
    folder.mkdir()
    connection = sqlite3.connect(folder / "run_0.db3")
    connection.executescript(
        "CREATE TABLE schema(schema_version INTEGER PRIMARY KEY, ros_distro TEXT NOT NULL); INSERT INTO schema VALUES (3, 'humble');"
        "CREATE TABLE metadata(id INTEGER PRIMARY KEY, metadata_version INTEGER NOT NULL, metadata TEXT NOT NULL);"
        "CREATE TABLE topics(id INTEGER PRIMARY KEY, name TEXT NOT NULL, type TEXT NOT NULL, serialization_format TEXT NOT NULL,"
        " offered_qos_profiles TEXT NOT NULL);"
        "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id INTEGER NOT NULL, timestamp INTEGER NOT NULL, data BLOB NOT NULL);"
        "CREATE INDEX timestamp_idx ON messages (timestamp ASC);"
    )
    never = "\n    sec: 9223372036\n    nsec: 854775807"
    qos = (
        f"- history: 3\n  depth: 0\n  reliability: 2\n  durability: 2\n  deadline:{never}\n  lifespan:{never}\n  liveliness: 1\n"
        f"  liveliness_lease_duration:{never}\n  avoid_ros_namespace_conventions: false"
    )
    written, topics = [], {}
    for topic, msgtype, time_ns, message in messages(store):
        if topic not in topics:
            topics[topic] = len(topics) + 1
            connection.execute("INSERT INTO topics VALUES (?, ?, ?, 'cdr', ?)", (topics[topic], topic, msgtype, qos))
        data = bytes(store.serialize_cdr(message, msgtype))
        connection.execute("INSERT INTO messages (topic_id, timestamp, data) VALUES (?, ?, ?)", (topics[topic], time_ns, data))
        written.append((topic, time_ns, data))
    connection.execute("INSERT INTO topics VALUES (9, '/own', 'my_msgs/msg/Own', 'cdr', '')")
    connection.execute("INSERT INTO messages (topic_id, timestamp, data) VALUES (9, ?, ?)", (START - 1, b"\0\1\0\0abcd"))
    connection.commit()
    connection.close()
    information = {
        "version": 5,
        "storage_identifier": "sqlite3",
        "relative_file_paths": ["run_0.db3"],
        "duration": {"nanoseconds": 1},
        "starting_time": {"nanoseconds_since_epoch": START},
        "message_count": len(written),
        "topics_with_message_count": [],
        "compression_format": "",
        "compression_mode": "",
    }
    (folder / "metadata.yaml").write_text(yaml.safe_dump({"rosbag2_bagfile_information": information}))
    return written


def test_a_bag_of_humble_and_a_type_that_nobody_knows(tmp_path):
    written = humble(tmp_path / "run")
    assert raw(tmp_path / "run")[1:] == written
    assert read_topics(tmp_path / "run")["/own"] == "my_msgs/msg/Own"
    with BagReader(tmp_path / "run") as reader:
        by_topic = {channel.topic: channel for channel in reader.channels}
        assert (by_topic["/picture"].qos[0].reliability, by_topic["/picture"].qos[0].durability) == ("best_effort", "volatile")
        first = next(iter(reader.raw()))
        with pytest.raises(BagError, match="/own cannot be decoded: the bag does not say what my_msgs/msg/Own looks like"):
            reader.decode(first)
    assert len(list(read_messages(tmp_path / "run", ["/joints"]))) == 40
    assert list(read_messages(tmp_path / "run", ["/own"], pass_over_malformed=True)) == []


CHANNELS = [("/a", "pkg/msg/A"), ("/b", "pkg/msg/A"), ("/c", "other/msg/C")]


def write_mcap(file, entries, encoding="ros2msg", **options):
    """``entries`` (channel, time, data), with mcap's own writer."""
    writer = McapLibraryWriter(file, **options)
    writer.start("ros2")
    schema = {msgtype: writer.register_schema(msgtype, encoding, b"uint8[] data") for _, msgtype in CHANNELS}
    numbers = [writer.register_channel(topic, "cdr", schema[msgtype], {}) for topic, msgtype in CHANNELS]
    for channel, time_ns, data in entries:
        writer.add_message(numbers[channel], time_ns, data, time_ns)
    writer.finish()


def noise(count=300, seed=0, jumps=True):
    """Messages whose clock jumps backward now and then, several at one time."""
    draw = np.random.default_rng(seed)
    now, entries = START, []
    for index in range(count):
        now += int(draw.integers(0, 3)) * 1_000_000
        if jumps and index % 97 == 96:
            now -= 40_000_000
        entries.append((int(draw.integers(0, 3)), now, b"\0\1\0\0" + draw.bytes(int(draw.integers(0, 400)))))
    return entries


@pytest.mark.parametrize(
    "options",
    [
        {"chunk_size": 2000},
        {"chunk_size": 2000, "compression": CompressionType.LZ4},
        {"chunk_size": 2000, "compression": CompressionType.NONE, "enable_crcs": False},
        {"use_chunking": False},
        {"chunk_size": 2000, "index_types": IndexType.NONE},
        {"chunk_size": 2000, "index_types": IndexType.CHUNK},
        {"chunk_size": 2000, "repeat_channels": False, "repeat_schemas": False},
        {"chunk_size": 2000, "use_statistics": False, "use_summary_offsets": False},
        {"index_types": IndexType.NONE, "use_statistics": False, "repeat_channels": False, "repeat_schemas": False, "use_summary_offsets": False},
    ],
)
@pytest.mark.parametrize("encoding", ["ros2msg", "unknown"])
def test_every_kind_of_mcap_file_is_read_in_the_order_of_time(tmp_path, options, encoding):
    entries = noise()
    with (tmp_path / "some.mcap").open("wb") as file:
        write_mcap(file, entries, encoding, **options)
    ordered = sorted(entries, key=lambda entry: entry[1])
    assert raw(tmp_path / "some.mcap") == [(CHANNELS[channel][0], time_ns, data) for channel, time_ns, data in ordered]
    first, last = START + 50_000_000, START + 200_000_000
    within = [(CHANNELS[c][0], t, data) for c, t, data in ordered if first <= t < last and c != 1]
    assert raw(tmp_path / "some.mcap", topics=["/a", "/c"], start_ns=first, stop_ns=last) == within
    with BagReader(tmp_path / "some.mcap") as reader:
        assert reader.counts() == {topic: sum(c == number for c, _, _ in entries) for number, (topic, _) in enumerate(CHANNELS)}
        arrivals = {entry.channel.topic: entry.times_ns.tolist() for entry in reader.files[0].arrivals(10**9)}
    # In the order of recording: a clock that jumped shows.
    assert arrivals == {topic: [t for c, t, _ in entries if c == number] for number, (topic, _) in enumerate(CHANNELS)}


@pytest.mark.parametrize("options", [{"chunk_size": 600}, {"chunk_size": 600, "compression": CompressionType.NONE}, {"use_chunking": False}])
def test_wherever_a_file_is_cut_off_what_stands_before_is_read(tmp_path, options):
    """Every message whose bytes are there and whole, none that is not, in the order in which they were written."""
    entries = noise(60, jumps=False)
    whole = io.BytesIO()
    write_mcap(whole, entries, **options)
    content = whole.getvalue()
    expected = [(CHANNELS[channel][0], time_ns, data) for channel, time_ns, data in entries]
    counts, cuts = [], [*range(0, len(content), 41), len(content) - 1]
    for cut in cuts:
        (tmp_path / "cut.mcap").write_bytes(content[:cut])
        if cut < 8:
            with pytest.raises(BagError, match="no MCAP file"):
                raw(tmp_path / "cut.mcap")
            continue
        read = raw(tmp_path / "cut.mcap")
        assert read == expected[: len(read)], cut
        counts.append(len(read))
        with BagReader(tmp_path / "cut.mcap") as reader:
            assert reader.troubles or len(read) == len(entries)
    assert counts == sorted(counts) and counts[-1] == len(entries)
    # Not a whole chunk more than what the cut took is lost: of the first half of the bytes, nearly half of the messages.
    assert counts[len(counts) // 2] > 15


def test_our_writer_is_understood_by_rosbags(tmp_path):
    """Split into files, each of them whole by itself; names, times, counts, quality of service and hashes as rosbags understands them."""
    store = get_typestore(Stores.ROS2_KILTED)
    qos = (OfferedQos("keep_last", 3, "best_effort", "volatile", deadline_ns=50_000_000),)
    writer = FolderWriter(tmp_path / "bag", Format("zstd", split_ns=300_000_000), {"why": "a test"})
    written = []
    for topic, msgtype, time_ns, message in messages(store):
        definition, _ = store.generate_msgdef(msgtype, ros_version=2)
        data = bytes(store.serialize_cdr(message, msgtype))
        writer.write(Channel(topic, msgtype, definition, "ros2msg", store.hash_rihs01(msgtype), qos), time_ns, data)
        written.append((topic, time_ns, data))
    writer.close()
    files = sorted((tmp_path / "bag").glob("*.mcap"))
    assert [file.name for file in files] == [f"bag_{number}.mcap" for number in range(4)]
    information = yaml.safe_load((tmp_path / "bag" / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert information["relative_file_paths"] == [entry["path"] for entry in information["files"]] == [file.name for file in files]
    assert sum(entry["message_count"] for entry in information["files"]) == information["message_count"] == len(written)
    assert information["custom_data"] == {"why": "a test"}
    with AnyReader([tmp_path / "bag"]) as reader:
        assert [(c.topic, t, data) for c, t, data in reader.messages()] == written
        assert (reader.start_time, reader.end_time) == (written[0][1], written[-1][1] + 1)
        assert {c.topic: c.msgcount for c in reader.connections} == {"/picture": 40, "/joints": 40, "/word": 1}
        (offered,) = reader.connections[0].ext.offered_qos_profiles
        assert (offered.reliability, offered.depth, offered.deadline) == (QosReliability.BEST_EFFORT, 3, QosTime(0, 50_000_000))
        assert all(connection.digest.startswith("RIHS01_") for connection in reader.connections)
    for file, entry in zip(files, information["files"], strict=True):
        with file.open("rb") as stream:
            library = make_reader(stream, validate_crcs=True)
            assert library.get_header().profile == "ros2"
            assert library.get_summary().statistics.message_count == entry["message_count"] == len(list(library.iter_messages()))
        times = [time_ns for _, time_ns, _ in raw(file)]
        assert len(times) == entry["message_count"]
        assert times[0] == entry["starting_time"]["nanoseconds_since_epoch"] and times[-1] - times[0] == entry["duration"]["nanoseconds"]


def damaged(folder, what):
    write(folder, storage=StoragePlugin.SQLITE3 if what == "garbage.db3" else StoragePlugin.MCAP)
    metadata = folder / "metadata.yaml"
    if what == "newer":
        metadata.write_text(metadata.read_text().replace("version: 9", "version: 12"))
    elif what == "missing":
        (folder / "bag.mcap").rename(folder / "other.mcap")
    elif what == "no yaml":
        metadata.write_text("\x00{[")
    elif what == "no keys":
        metadata.write_text("rosbag2_bagfile_information: {version: 9}")
    elif what == "garbage.db3":
        (folder / "bag.db3").write_bytes(b"not a database" * 100)
    elif what == "garbage.mcap":
        (folder / "bag.mcap").write_bytes(b"not a bag" * 100)
    elif what == "empty":
        shutil.rmtree(folder)
        folder.mkdir()


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("newer", "has version 12, this reads up to 9"),
        ("missing", r"lacks bag\.mcap, which its metadata\.yaml names"),
        ("no yaml", r"metadata\.yaml cannot be read"),
        ("no keys", r"metadata\.yaml cannot be read .*relative_file_paths"),
        ("garbage.db3", r"bag\.db3 is no bag of rosbag2's"),
        ("garbage.mcap", r"bag\.mcap is no MCAP file: it does not begin"),
        ("empty", r"neither metadata\.yaml nor a file that ends with \.mcap or \.db3"),
    ],
)
def test_what_is_no_bag_is_refused_in_one_line(tmp_path, what, reason):
    damaged(tmp_path / "bag", what)
    with pytest.raises(BagError, match=reason) as caught:
        read_topics(tmp_path / "bag")
    assert "\n" not in str(caught.value)


def test_a_definition_that_cannot_be_read_harms_no_other_topic(tmp_path):
    store = get_typestore(Stores.ROS2_KILTED)
    text, _ = store.generate_msgdef(TEXT, ros_version=2)
    writer = FolderWriter(tmp_path / "bag", Format())
    data = bytes(store.serialize_cdr(store.types[TEXT]("hello"), TEXT))
    writer.write(Channel("/bad", "my_msgs/msg/Bad", "this is } no definition", "ros2msg"), START, data)
    writer.write(Channel("/missing", "my_msgs/msg/Part", "my_msgs/Unknown part", "ros2msg"), START, data)
    writer.write(Channel("/good", TEXT, text, "ros2msg"), START, data)
    writer.write(Channel("/own", "my_msgs/msg/Own", "string word", "ros2msg"), START + 1, data)
    writer.close()
    assert [entry.message.data for entry in read_messages(tmp_path / "bag", ["/good"])] == ["hello"]
    assert [entry.message.word for entry in read_messages(tmp_path / "bag", ["/own"])] == ["hello"]
    for topic in ("/bad", "/missing"):
        with pytest.raises(BagError, match=f"{topic} cannot be decoded"):
            list(read_messages(tmp_path / "bag", [topic]))
