"""The reference pages are what the code says."""

from __future__ import annotations

import ast
import re
import runpy

from line import ROOT


def test_the_pages_are_written_from_the_code() -> None:
    pages = runpy.run_path(str(ROOT / "infra/reference.py"))["PAGES"]
    stale = [name for name, text in pages.items() if (ROOT / "docs" / name).read_text() != text()]
    assert not stale, "run: python infra/reference.py"


def test_every_test_that_the_security_page_names_exists() -> None:
    named = re.findall(r"`(tests/\w+\.py)::(\w+)`", (ROOT / "docs/security.md").read_text())
    assert len(named) > 40
    files = {file: ast.parse((ROOT / file).read_text()) for file, _ in named}
    known = {
        (file, node.name)
        for file, tree in files.items()
        for node in tree.body
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert not [f"{file}::{name}" for file, name in named if (file, name) not in known]
