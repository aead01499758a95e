"""Reads a table of Parquet files with DuckDB or PyArrow and prints its rows as JSON lines.

Usage: read_parquet.py duckdb|pyarrow GLOB
Bytes become base64, timestamps milliseconds since 1970, headers pairs of name and value. The first line is an object of
column names and types.
"""

import base64
import glob
import json
import sys


def plain(name, value):
    if isinstance(value, (bytes, bytearray)):
        return base64.b64encode(value).decode()
    if name == "headers":
        return [[header["key"], plain("", header["value"])] for header in value or []]
    return value


def show(types, rows):
    print(json.dumps(types))
    for row in rows:
        print(json.dumps({name: plain(name, value) for name, value in row.items()}))


def duckdb_rows(pattern):
    import duckdb

    relation = duckdb.sql(
        f"""SELECT * REPLACE (epoch_ms("timestamp") AS "timestamp")
        FROM read_parquet('{pattern}', union_by_name = true, hive_partitioning = false)"""
    )
    types = {name: str(kind) for name, kind in zip(relation.columns, relation.types)}
    return types, (dict(zip(relation.columns, row)) for row in relation.fetchall())


def pyarrow_rows(pattern):
    import pyarrow
    import pyarrow.parquet

    tables = [pyarrow.parquet.ParquetFile(path).read() for path in sorted(glob.glob(pattern))]
    table = pyarrow.concat_tables(tables, promote_options="permissive")
    at = table.schema.get_field_index("timestamp")
    kind = table.schema.field(at).type
    if kind.unit != "ms":
        sys.exit(f"timestamps are in {kind.unit}")
    table = table.set_column(at, "timestamp", table.column(at).cast(pyarrow.int64()))
    types = {field.name: str(field.type) for field in table.schema}
    return types, table.to_pylist()


if __name__ == "__main__":
    readers = {"duckdb": duckdb_rows, "pyarrow": pyarrow_rows}
    show(*readers[sys.argv[1]](sys.argv[2]))
