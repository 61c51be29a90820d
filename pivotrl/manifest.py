"""What travels between stages: a manifest, never a frame, a model or a pickle.

A manifest names the files a stage wrote, their hashes and row counts, and the parts of the key
that made it. Its files lie under `PIVOTRL_HOME`, and it can tell whether they are still whole.
This module must never know what a stage does.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from importlib import metadata
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from pivotrl import syntax
from pivotrl.types import JSON, digest

SCHEMA = 1
PACKAGE = Path(__file__).parent


class FileEntry(BaseModel):
    model_config = ConfigDict(frozen=True)

    path: str
    """Relative to PIVOTRL_HOME."""
    table: str | None = None
    """The table its rows belong to; None for a file that is not rows (weights, JSON)."""
    sha256: str
    rows: int = 0
    content: str
    """Digest of what the next stage depends on; the file's own hash unless the stage narrows it."""


class Manifest(BaseModel):
    model_config = ConfigDict(frozen=True)

    kind: str
    schema_version: int = SCHEMA
    key: str
    parts: dict[str, JSON]
    """What the key is made of: settings, inputs, code, versions."""
    files: tuple[FileEntry, ...] = ()
    counts: dict[str, JSON] = Field(default_factory=dict)
    """Small results (row counts, scores); JSON."""
    seconds: float = 0.0

    @property
    def fingerprint(self) -> str:
        """Digest of the content that a stage reading this manifest depends on."""
        return digest([self.kind, [f.content for f in self.files], self.counts])

    @property
    def byte_fingerprint(self) -> str:
        """Digest of all of it, for a stage that reads more of the files than `content` covers."""
        return digest([self.kind, [f.sha256 for f in self.files], self.counts])

    @property
    def bare(self) -> Manifest:
        """This manifest without content: it draws an edge of the graph and changes no key."""
        return self.model_copy(update={"files": (), "counts": {}})

    def only(self, entry: FileEntry) -> Manifest:
        """This manifest narrowed to one file: what a stage that reads one shard depends on."""
        return self.model_copy(update={"files": (entry,), "counts": {}})

    def of_table(self, home: Path, table: str) -> list[Path]:
        return [home / f.path for f in self.files if f.table == table]

    def whole(self, home: Path) -> bool:
        """True if every file is there and has its hash."""
        return all(
            (home / f.path).is_file() and file_hash(home / f.path) == f.sha256 for f in self.files
        )


def file_hash(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def code_digest(modules: Iterable[str]) -> str:
    """Digest of the named `pivotrl` modules and their transitive `pivotrl` imports.

    Of each module the AST without docstrings counts, so comments, formatting and documentation
    change nothing. Imports inside functions count as well.
    """
    seen: dict[str, str] = {}
    todo = list(modules)
    while todo:
        name = todo.pop()
        if name in seen:
            continue
        text, imports = _module(name)
        seen[name] = text
        todo.extend(imports)
    return digest(seen)


@cache
def _module(name: str) -> tuple[str, tuple[str, ...]]:
    tree = syntax.parse(_source(name).read_text(encoding="utf-8"))
    imports: set[str] = {name.rpartition(".")[0]}
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            body[:] = [statement for statement in body if not _is_text(statement)]
        if isinstance(node, ast.Import):
            imports.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            imports.add(node.module)
            imports.update(f"{node.module}.{alias.name}" for alias in node.names)
    ours = {i for i in imports if i.startswith("pivotrl.") and _source(i).is_file()}
    return ast.dump(tree), tuple(sorted(ours))


def _source(name: str) -> Path:
    """The file of a `pivotrl` module, found without importing it (its imports may be heavy)."""
    path = PACKAGE.joinpath(*name.split(".")[1:])
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _is_text(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Of those that are installed."""
    found = {}
    for name in packages:
        with suppress(metadata.PackageNotFoundError):
            found[name] = metadata.version(name)
    return found


def changed_parts(old: Mapping[str, JSON], new: Mapping[str, JSON], prefix: str = "") -> list[str]:
    """Names of the leaves in which two keys' parts differ, for people: `settings.lambda_diff`."""
    out: list[str] = []
    for name in sorted({*old, *new}):
        a, b = old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            out.extend(changed_parts(a, b, f"{prefix}{name}."))
        elif a != b:
            out.append(f"{prefix}{name}")
    return out
