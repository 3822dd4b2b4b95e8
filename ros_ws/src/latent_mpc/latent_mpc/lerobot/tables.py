"""The parquet files of a LeRobot data set."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latent_mpc.lerobot.layout import LeRobotError, parquet

_INDEX = "__index_level_0__"


def write_rows(file: Path, columns: dict[str, NDArray[Any]], features: dict[str, dict[str, Any]]) -> None:
    """Write ``columns`` (N rows each, K wide or flat) as the types that ``features`` name: lists of fixed length, or numbers where there is one."""
    pa, pq = parquet()
    arrays = {}
    for name, values in columns.items():
        kind = {"float32": pa.float32(), "int64": pa.int64(), "bool": pa.bool_()}[features[name]["dtype"]]
        flat = pa.array(np.ascontiguousarray(values).reshape(-1), kind)
        width = features[name]["shape"][0]
        arrays[name] = flat if width == 1 else pa.FixedSizeListArray.from_arrays(flat, width)
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(arrays), file, compression="snappy")


def write_records(file: Path, records: list[dict[str, Any]]) -> None:
    """Write plain records, one a row."""
    pa, pq = parquet()
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(records), file, compression="snappy")


def write_tasks(file: Path, tasks: list[str]) -> None:
    """Write the tasks' texts as LeRobot reads them back: as the index of a table with their numbers."""
    pa, pq = parquet()
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), _INDEX: pa.array(tasks, pa.string())})
    number = {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64", "metadata": None}
    text = {"name": None, "field_name": _INDEX, "pandas_type": "unicode", "numpy_type": "object", "metadata": None}
    columns = {"name": None, "field_name": None, "pandas_type": "unicode", "numpy_type": "object", "metadata": {"encoding": "UTF-8"}}
    said = {"index_columns": [_INDEX], "column_indexes": [columns], "columns": [number, text], "pandas_version": "2.3.0"}
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table.replace_schema_metadata({"pandas": json.dumps(said)}), file)


def read_columns(file: Path, names: list[str] | None) -> dict[str, Any]:
    """Columns of a parquet file: lists of plain values, or arrays ``(N, K)`` of numbers where every row has as many.

    Raises:
        LeRobotError: the file is missing or damaged, or lacks a column.
    """
    pa, pq = parquet()
    try:
        held = pq.read_schema(file).names
        missing = [name for name in names or [] if name not in held]
        if missing:
            raise LeRobotError(f"{file} lacks the column {missing[0]}; it has {', '.join(held)}")
        table = pq.read_table(file, columns=names)
    except (OSError, pa.ArrowException) as error:
        raise LeRobotError(f"{file} cannot be read: {' '.join(str(error).split())}") from error
    return {name: table.column(name).to_pylist() for name in table.column_names}
