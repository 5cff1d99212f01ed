"""A fleet from fleet.csv, such as a spreadsheet or an inventory system gives it: a line a host, a list a group.

    ojai plan examples/csv/fleet.py

From a program's answer instead: `_lines = subprocess.check_output([...], text=True).splitlines()`.
"""

import csv
from pathlib import Path

_lines = Path(__file__).with_suffix(".csv").read_text(encoding="utf-8").splitlines()


def _host(row):
    data = {key: value for key, value in row.items() if value and key not in ("name", "group", "profile")}
    return row["name"], {**data, "services": [{"profile": row["profile"]}] if row["profile"] else []}


_rows = list(csv.DictReader(_lines))
fleet = [_host(row) for row in _rows]
for _group in {row["group"] for row in _rows}:
    globals()[_group] = [_host(row) for row in _rows if row["group"] == _group]
