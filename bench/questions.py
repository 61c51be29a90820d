"""Twenty questions to the store with their real output: docs/questions.md.

    make demo && python bench/questions.py

The questions are docs/questions.sql; the answers are of the home's store, the last demo's.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

from rich.console import Console

from flows import home
from flows.cli import tables_of
from pivotrl.store import Store

ROOT = Path(__file__).parents[1]


def questions() -> Iterator[tuple[str, str]]:
    """(question, SQL)."""
    for part in (ROOT / "docs/questions.sql").read_text().split(";\n"):
        if part.strip():
            question, _, sql = part.strip().partition("\n")
            yield question.removeprefix("-- "), sql


def main() -> None:
    parser = argparse.ArgumentParser(description="Questions to the store, answered.")
    parser.add_argument("--home", type=Path, default=home())
    options = parser.parse_args()
    store = Store(options.home / "pivotrl.duckdb")
    lines = ["# Questions to the store", ""]
    lines += ['`pivotrl sql "..."`; the answers are of the demo. `--json` gives whole values.', ""]
    for question, sql in questions():
        text = StringIO()
        console = Console(file=text, width=110)
        columns, rows = store.query(sql)
        for table in tables_of(columns, rows, console.width):
            console.print(table)
        shown = "\n".join(line.rstrip() for line in text.getvalue().splitlines())
        lines += [f"## {question}", "", "```sql", sql, "```", "", "```", shown, "```", ""]
    (ROOT / "docs/questions.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
