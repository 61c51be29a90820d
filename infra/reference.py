"""Writes the reference pages from the code: configuration, commands, tables, metrics.

    .venv/bin/python infra/reference.py

A test fails where a page is not what this writes.
"""

from __future__ import annotations

import re
import tempfile
from pathlib import Path

import typer
from typer.cli import get_docs_for_click

from flows.cli import app
from pivotrl.config import describe
from pivotrl.store import Store
from pivotrl.training import metrics as training
from tasks import track

DOCS = Path(__file__).parents[1] / "docs"
WRITTEN = "Written by `python infra/reference.py`."


def commands() -> str:
    """Every command with its arguments, options and examples, as `--help` has them."""
    command = typer.main.get_command(app)
    text = get_docs_for_click(obj=command, ctx=typer.Context(command), name="pivotrl")
    for code, plain in (("&#x27;", "'"), ("&quot;", '"'), ("&lt;", "<"), ("&gt;", ">")):
        text = text.replace(code, plain)
    text = re.sub(r"^Examples?:.*$", _examples, text, flags=re.MULTILINE)
    return text.replace("# `pivotrl`\n", f"# Commands\n\n{WRITTEN}\n", 1).rstrip() + "\n"


def _examples(line: re.Match[str]) -> str:
    plain = re.sub(r"\[/?(?:bold)?\]", "", line[0]).split(":", 1)[1]
    return "\n".join(["```bash", *(example.strip() for example in plain.split("  ·  ")), "```"])


def tables() -> str:
    """Every table and view of the store with its columns, from the database's own comments."""
    lines = ["# Tables", "", f"{WRITTEN} `pivotrl sql` asks them; [questions.md](questions.md)."]
    with tempfile.TemporaryDirectory() as folder:
        store = Store(Path(folder) / "pivotrl.duckdb")
        _, found = store.query(
            "select table_name, 'table', comment from duckdb_tables() union all "
            "select view_name, 'view', comment from duckdb_views() where not internal "
            "order by 2, 1"
        )
        for name, kind, comment in found:
            lines += ["", f"## {name}", "", f"{kind.capitalize()}. {comment or ''}".strip(), ""]
            lines += ["| column | type | meaning |", "|---|---|---|"]
            _, columns = store.query(
                "select column_name, data_type, comment from duckdb_columns() "
                "where table_name = ? order by column_index",
                [name],
            )
            lines += [
                f"| `{column}` | {type_} | {(meaning or '').replace('|', chr(92) + '|')} |"
                for column, type_, meaning in columns
            ]
    return "\n".join(lines) + "\n"


def metrics() -> str:
    """Every metric in MLflow that is ours."""
    lines = ["# Metrics", "", WRITTEN]
    for title, note, meanings in (
        ("Of training", "By step.", training.MEANINGS),
        ("Of scores", "Of every run that scores a model, as far as it has them.", track.MEANINGS),
    ):
        lines += ["", f"## {title}", "", note, "", "| metric | meaning |", "|---|---|"]
        lines += [f"| `{name}` | {meaning} |" for name, meaning in meanings.items()]
    return "\n".join(lines) + "\n"


PAGES = {
    "configuration.md": describe,
    "commands.md": commands,
    "tables.md": tables,
    "metrics.md": metrics,
}


if __name__ == "__main__":
    for page, text in PAGES.items():
        (DOCS / page).write_text(text())
