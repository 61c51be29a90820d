"""The answers to SciCode's test cases, from SciCode's own HDF5 file.

Layout: `<step>/test<n>/<variable>`; a variable is a data set, or a group of a list, a sparse matrix
or a dictionary. More than one variable is a tuple. This module must never know a program.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from pivotrl.benchmarks.scicode_values import told
from pivotrl.types import JSON, ConfigError, PivotRLError

FILE = "test_data.h5"


def check_targets(file: Path, step: str, count: int) -> None:
    """Raises ConfigError, with the remedy, if the file cannot be read here or lacks an answer."""
    if find_spec("h5py") is None:
        raise ConfigError(
            f"{file}: h5py is not installed; pip install h5py, or give `targets` in the rows"
        )
    import h5py

    try:
        with h5py.File(file, "r") as answers:
            missing = [n for n in range(1, count + 1) if f"{step}/test{n}" not in answers]
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read ({error}); fetch SciCode's again") from None
    if missing:
        raise ConfigError(
            f"{file}: no answers to step {step} (test {missing[0]}); fetch SciCode's {FILE} again"
        )


def read_targets(file: Path, step: str, count: int) -> list[JSON]:
    """The answers to a step's first `count` tests as `scicode_values.told` says them.

    Raises `PivotRLError` that names file and group for one that is not there, and ConfigError
    without h5py.
    """
    check_targets(file, step, count)
    import h5py

    try:
        with h5py.File(file, "r") as answers:
            return [told(_test(answers[f"{step}/test{n + 1}"])) for n in range(count)]
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise PivotRLError(
            f"{file}: no answers to step {step} ({error}); fetch SciCode's {FILE} again"
        ) from None


def _test(group: Any) -> Any:
    variables = [_variable(group[name]) for name in group]
    return variables[0] if len(variables) == 1 else tuple(variables)


def _variable(node: Any) -> Any:
    if not hasattr(node, "keys"):
        value = node[()]
        return value.decode() if isinstance(value, bytes) else value
    if "list" in node:
        return [node["list"][name][()] for name in node["list"]]
    if "sparse_matrix" in node:
        return _matrix(node["sparse_matrix"])
    return {_key(name): _variable(node[name]) for name in node}


def _key(name: str) -> str | float:
    try:
        return float(name)
    except ValueError:
        return name


def _matrix(group: Any) -> Any:
    from scipy import sparse

    parts = {name: group[name][()] for name in group}
    data, shape = parts["data"], tuple(parts["shape"])
    if "row" in parts:
        return sparse.coo_matrix((data, (parts["row"], parts["col"])), shape=shape)
    blocks = {"blocksize": tuple(parts["blocksize"])} if "blocksize" in parts else {}
    kind = sparse.bsr_matrix if blocks else sparse.csr_matrix
    return kind((data, parts["indices"], parts["indptr"]), shape=shape, **blocks)
