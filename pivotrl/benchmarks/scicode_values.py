"""Values of scientific programs as JSON, and SciCode's comparisons of them.

Its source also runs in the sandbox, beside a program (`tell`) and apart from it (`untold` and the
comparisons, which follow SciCode's): so it knows numpy and, where they are loaded, scipy and sympy
alone. A value from a program is hostile: only plain types are made of it. This module must never
know this project.
"""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

KINDS = "biufcSU"
"""Of numpy's types: booleans, numbers and texts; nothing that holds Python objects."""


def told(value: Any) -> Any:
    """JSON of a value: plain Python, arrays, sparse matrices, SymPy's symbols and numbers.

    Raises TypeError or ValueError for anything else.
    """
    sparse = sys.modules.get("scipy.sparse")
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        if array.dtype.kind == "O":
            return {"objects": [list(array.shape), [told(v) for v in array.ravel()]]}
        return {"array": [array.dtype.str, list(array.shape), _packed(array)]}
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, list):
        return [told(v) for v in value]
    if isinstance(value, tuple):
        return {"tuple": [told(v) for v in value]}
    if isinstance(value, set | frozenset):
        return {"set": [told(v) for v in value]}
    if isinstance(value, Mapping):
        return {"dict": [[told(k), told(v)] for k, v in value.items()]}
    if sparse is not None and sparse.issparse(value):
        entries = sparse.coo_matrix(value)
        parts = (entries.data, entries.row, entries.col)
        return {"sparse": [list(entries.shape), *(told(part) for part in parts)]}
    if hasattr(value, "__array__"):
        return told(np.asarray(value))
    if type(value).__module__.startswith("sympy."):
        return str(value) if value.free_symbols else told(complex(value))
    if isinstance(value, Iterable):
        return [told(v) for v in value]
    raise TypeError(f"a {type(value).__name__} is no value")


def untold(said: Any) -> Any:
    """The value of what `told` said, or of plain JSON. Raises ValueError for anything else."""
    if isinstance(said, list):
        return [untold(v) for v in said]
    if not isinstance(said, dict):
        return said
    if len(said) != 1:
        return {key: untold(v) for key, v in said.items()}
    ((kind, content),) = said.items()
    match kind:
        case "array":
            dtype = np.dtype(content[0])
            if dtype.kind not in KINDS:
                raise ValueError(f"no array of {dtype}")
            data = base64.b64decode(content[2], validate=True)
            return np.frombuffer(data, dtype).reshape(content[1]).copy()[()]
        case "objects":
            array = np.empty(len(content[1]), object)
            array[:] = [untold(v) for v in content[1]]
            return array.reshape(content[0])
        case "complex":
            return complex(*content)
        case "tuple":
            return tuple(untold(v) for v in content)
        case "set":
            return {untold(v) for v in content}
        case "dict":
            return {untold(k): untold(v) for k, v in content}
        case "sparse":
            from scipy import sparse

            data, *places = (untold(part) for part in content[1:])
            return sparse.csr_matrix((data, tuple(places)), shape=content[0])
    return {kind: untold(content)}


def _packed(array: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


# -- SciCode's comparisons ------------------------------------------------------------------------


def close(a: Any, b: Any, *tolerances: Any, **named: Any) -> bool:
    """As `numpy.allclose`; but where something is expected, nothing at all is not close to it."""
    a, b = _dense(a), _dense(b)
    return bool(_allclose(a, b, *tolerances, **named)) and bool(np.size(a) or not np.size(b))


_allclose = np.allclose


def _dense(value: Any) -> Any:
    return value.toarray() if hasattr(value, "toarray") else value


def _equal(a: Any, b: Any, **tolerances: float) -> bool:
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and are_dicts_close(a, b, **tolerances)
    if isinstance(a, bool | str):
        return bool(a == b)
    try:
        return close(a, b, **tolerances)
    except (ValueError, TypeError):
        return bool(a == b)


def are_dicts_close(a: Any, b: Any, atol: float = 1e-8, rtol: float = 1e-5) -> bool:
    return a.keys() == b.keys() and all(_equal(a[k], b[k], atol=atol, rtol=rtol) for k in a)


def are_csc_matrix_close(a: Any, b: Any) -> bool:
    return close(a, b)


def cmp_tuple_or_list(a: Any, b: Any) -> bool:
    return len(a) == len(b) and all(_equal(v, w) for v, w in zip(a, b, strict=True))
