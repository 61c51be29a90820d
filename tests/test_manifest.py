"""Manifests: what a key depends on, and what it does not."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from pivotrl import manifest, syntax
from pivotrl.manifest import FileEntry, Manifest, changed_parts, code_digest, file_hash

SOURCE = '''"""Docstring."""
from pivotrl.leaf import X


def f(a):
    """What f does."""
    return a + X
'''


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package `pivotrl` of two modules in place of the real one."""
    (tmp_path / "__init__.py").write_text("")
    (tmp_path / "leaf.py").write_text("X = 1\n")
    (tmp_path / "stem.py").write_text(SOURCE)
    monkeypatch.setattr(manifest, "PACKAGE", tmp_path)
    return tmp_path


def digest_now() -> str:
    manifest._module.cache_clear()
    return code_digest(["pivotrl.stem"])


@pytest.mark.parametrize(
    "edit",
    [
        lambda s: s.replace('"""Docstring."""', '"""Another, with\nlines."""'),
        lambda s: s.replace('"""What f does."""', '"""Else."""'),
        lambda s: s.replace("return a + X", "# why\n    return (a + X)"),
        lambda s: s.replace("def f(a):", "def f(\n    a,\n):"),
    ],
)
def test_comments_docstrings_and_formatting_change_nothing(package: Path, edit) -> None:
    before = digest_now()
    (package / "stem.py").write_text(edit(SOURCE))
    assert digest_now() == before


def test_code_changes_the_digest_also_through_imports(package: Path) -> None:
    before = digest_now()
    (package / "stem.py").write_text(SOURCE.replace("a + X", "a - X"))
    own = digest_now()
    (package / "stem.py").write_text(SOURCE)
    (package / "leaf.py").write_text("X = 2\n")
    through = digest_now()
    assert len({before, own, through}) == 3


def test_the_real_stages_see_their_transitive_imports() -> None:
    manifest._module.cache_clear()
    _, imports = manifest._module("pivotrl.rollouts")
    assert "pivotrl.chat" in imports
    assert "pivotrl.types" in imports


def test_a_manifest_knows_whether_its_files_are_whole(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    file.write_bytes(b"rows")
    entry = FileEntry(path="a.bin", sha256=file_hash(file), content="c")
    made = Manifest(kind="sample", key="k", parts={}, files=(entry,))
    assert made.whole(tmp_path)
    file.write_bytes(b"rowz")
    assert not made.whole(tmp_path)
    file.unlink()
    assert not made.whole(tmp_path)


def test_a_shard_depends_on_its_own_content_only() -> None:
    one = FileEntry(path="1", table="candidates", sha256="x", content="ids-1")
    two = FileEntry(path="2", table="candidates", sha256="y", content="ids-2")
    small = Manifest(kind="extract", key="k", parts={}, files=(one,), counts={"candidates": 1})
    large = Manifest(kind="extract", key="l", parts={}, files=(one, two), counts={"candidates": 2})
    assert small.only(one).fingerprint == large.only(one).fingerprint
    assert small.fingerprint != large.fingerprint


def test_changed_parts_names_the_leaves() -> None:
    old = {"settings": {"lambda_diff": 0.6, "k": 16}, "code": "a"}
    new = {"settings": {"lambda_diff": 0.5, "k": 16}, "code": "a", "versions": {"torch": "2"}}
    assert changed_parts(old, new) == ["settings.lambda_diff", "versions"]
    assert changed_parts(old, old) == []


def test_a_parser_that_another_thread_confused_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tree, answers = ast.parse("x = 1"), [SystemError("recursion depth mismatch"), None]

    def confused(text: str) -> ast.Module:
        if answer := answers.pop(0):
            raise answer
        return tree

    monkeypatch.setattr(syntax.ast, "parse", confused)
    assert syntax.parse("x = 1") is tree
    answers.extend([SystemError("again")] * syntax.TRIES)
    with pytest.raises(SystemError, match="again"):
        syntax.parse("x = 1")
