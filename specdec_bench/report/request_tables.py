"""The requests of an archive as a table of one row each, for other tools."""

import json
from collections.abc import Iterator

import pandas as pd
import pyarrow as pa

from specdec_bench.archive.frame import COLUMNS
from specdec_bench.report.text import defuse

ROWS_AT_ONCE = 1_000
TEXTS = [name for name, dtype in COLUMNS.items() if isinstance(dtype, pd.StringDtype)]
LISTS = [name for name, dtype in COLUMNS.items() if dtype == "object"]


def csv_chunks(frame: pd.DataFrame) -> Iterator[bytes]:
    """Yields the requests as CSV, some rows at a time. Lists are JSON. No text is a spreadsheet's formula.

    Args:
        frame: what `specdec_bench.archive.load` returns.
    """
    for start in range(0, max(len(frame), 1), ROWS_AT_ONCE):
        part = frame.iloc[start : start + ROWS_AT_ONCE]
        texts = {name: part[name].map(defuse, na_action="ignore") for name in TEXTS}
        lists = {name: part[name].map(json.dumps) for name in LISTS}
        yield part.assign(**texts, **lists).to_csv(index=False, header=start == 0).encode()


def parquet_bytes(frame: pd.DataFrame) -> bytes:
    r"""Returns the requests as parquet. Lists are lists; halves of surrogate pairs are spelt out, such as `\ud800`.

    Args:
        frame: what `specdec_bench.archive.load` returns.
    """
    table = frame.assign(**{name: frame[name].map(_as_unicode, na_action="ignore") for name in TEXTS})
    table.attrs = {}
    data: bytes = table.to_parquet(index=False, schema=pa.schema([(name, _type_of(name)) for name in COLUMNS]))
    return data


def _type_of(name: str) -> pa.DataType:
    if name in TEXTS:
        return pa.string()
    if name in LISTS:
        return pa.list_(pa.int64())
    return pa.int64() if COLUMNS[name] == "Int64" else pa.float64()


def _as_unicode(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()
