"""Makes a whole bag of what a killed recorder, or a full disk, left behind. The original is only ever read."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from latent_mpc.bags.folder import BagFolder, find_files, storage_files
from latent_mpc.bags.mcap_file import McapFile
from latent_mpc.bags.reader import decompress_file, decompressed, open_storage
from latent_mpc.bags.sqlite_file import SqliteFile
from latent_mpc.bags.storage import BagError, RawMessage, StorageFile
from latent_mpc.bags.writer import FolderWriter, Format


@dataclass(frozen=True)
class FileRecovery:
    """What became of one file: ``read_bytes`` of ``size_bytes`` made sense; ``trouble`` is empty where the file was whole."""

    file: str
    messages: int
    size_bytes: int
    read_bytes: int
    trouble: str


@dataclass(frozen=True)
class Recovery:
    """What could be saved."""

    out: str
    messages: int
    topics: dict[str, int]
    files: tuple[FileRecovery, ...]

    def text(self) -> str:
        """For people."""
        lines = [f"{self.out}: {self.messages} messages recovered"]
        for file in self.files:
            share = f"{file.read_bytes} of {file.size_bytes} bytes" if file.read_bytes < file.size_bytes else f"all {file.size_bytes} bytes"
            lines.append(f"  {file.file}: {file.messages} messages from {share}{'; ' + file.trouble if file.trouble else ''}")
        lines += [f"  {topic}: {count}" for topic, count in sorted(self.topics.items())]
        return "\n".join(lines)


def recover(path: Path, out: Path, compression: str = "none", report: Callable[[int, int], None] = lambda done, total: None) -> Recovery:
    """Write everything that can be read of the bag ``path`` into the new bag ``out``; ``report(done, all)`` after each file.

    Raises:
        BagError: ``out`` exists, ``path`` is no bag, or not one message of it can be read; then nothing is left at ``out``.
        OSError: a file cannot be read or written; nothing is left at ``out`` then, either.
    """
    if out.exists():
        raise BagError(f"{out} exists already, not overwriting.")
    try:
        return _recover(path, out, compression, report)
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise


def _recover(path: Path, out: Path, compression: str, report: Callable[[int, int], None]) -> Recovery:
    folder = _whatever_is_there(path)
    topics: Counter[str] = Counter()
    files: list[FileRecovery] = []
    writer: FolderWriter | None = None
    for number, file in enumerate(folder.files):
        count = 0
        try:
            with _opened(file) as (storage, cut):
                for message in _everything(storage):
                    channel = message.channel
                    writer = writer or FolderWriter(out, Format(compression), {**folder.custom, "recovered_from": str(path)})
                    writer.write(channel, message.time_ns, message.data, message.published_ns)
                    topics[channel.topic] += 1
                    count += 1
                size, read = file.stat().st_size, file.stat().st_size
                if isinstance(storage, McapFile):
                    size, read = storage.size, storage.read_to
                trouble = "; ".join(part for part in (cut, storage.trouble) if part)
                files.append(FileRecovery(file.name, count, size, read, trouble))
        except BagError as error:
            files.append(FileRecovery(file.name, count, file.stat().st_size, 0, str(error)))
        report(number + 1, len(folder.files))
    if writer is None:
        reasons = "; ".join(f"{file.file}: {file.trouble or 'it holds none'}" for file in files)
        raise BagError(f"not one message can be read of {path}: {reasons}")
    writer.close()
    return Recovery(str(out), sum(topics.values()), dict(topics), tuple(files))


def _whatever_is_there(path: Path) -> BagFolder:
    """The files of a bag, also of those whose metadata are damaged or name files that are gone."""
    try:
        return find_files(path)
    except BagError:
        files = storage_files(path) if path.is_dir() else ()
        if not files:
            raise
        return BagFolder(path, files)


@contextmanager
def _opened(file: Path) -> Iterator[tuple[StorageFile, str]]:
    with tempfile.TemporaryDirectory(prefix="latent-mpc-bag-") as temporary:
        plain, cut = file, ""
        if file.suffix in (".zstd", ".zst"):
            plain = Path(temporary, file.stem)
            cut = "" if decompress_file(file, plain) else "the compressed file is cut off or damaged"
        storage = open_storage(plain, file)
        try:
            yield storage, cut
        finally:
            storage.close()


def _everything(storage: StorageFile) -> Iterator[RawMessage]:
    """All messages, and of a damaged file those that are not."""
    if isinstance(storage, McapFile):
        storage.look_through()
    # The new bag says nothing of messages that are compressed by themselves, so none may be.
    damaged = 0
    for message in storage.salvage() if isinstance(storage, SqliteFile) else storage.messages():
        try:
            whole = decompressed(message)
        except BagError:
            damaged += 1
            continue
        yield whole
    if damaged:
        storage.trouble = "; ".join(part for part in (storage.trouble, f"{damaged} of its compressed messages are damaged") if part)
