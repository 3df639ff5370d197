"""Numbers as C++ literals that read back to the same value, and tables of them.

`literal` gives an expression of exactly the element type, safe inside any larger expression;
`table` gives the rows of a constant array, whose element type is stated by the array.
"""

import hashlib
import math
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from anvil_jax.dtypes import ELEMENT_TYPES, ElementType, element_type
from anvil_jax.emit.views import TableView

_ROW_WIDTH = 92


def literal(value: object, dtype_name: str) -> str:
    """A C++ expression of type `dtype_name` whose value is `value`.

    Floating-point numbers are the shortest decimals that read back to the same bits (a NaN keeps
    its sign, not its payload); integers carry their type, so that ``std::int64_t{1} << 40`` is
    what it seems. Negative values are parenthesised.

    Args:
        value: anything NumPy converts to that dtype.
        dtype_name: a name of the table in `anvil_jax.dtypes`, e.g. ``float32``.
    """
    row = ELEMENT_TYPES[dtype_name]
    scalar = np.asarray(value, dtype=row.dtype).reshape(1)[0]
    if row.kind == "f":
        text = _float_text(scalar, row)
        return f"({text})" if text.startswith("-") else text
    if row.kind == "b":
        return _integer_text(scalar, row)
    return f"{row.cpp}{{{_integer_text(scalar, row)}}}"


def table(array: object) -> TableView:
    """A constant array, flattened in C order, named after its contents.

    An empty array has one unused element, since C++ has no arrays of size 0.
    """
    values = np.asarray(array)
    row = element_type(values.dtype, "a constant table")
    values = np.ascontiguousarray(values, dtype=row.dtype.newbyteorder("<")).reshape(-1)
    digest = hashlib.sha256(row.numpy.encode() + b":" + values.tobytes()).hexdigest()[:16]
    if values.size == 0:
        values = np.zeros(1, row.dtype)
    text = _float_text if row.kind == "f" else _integer_text
    return TableView(
        name=f"table_{digest}",
        ctype=row.cpp,
        size=int(values.size),
        rows=tuple(_rows(text(value, row) for value in values.astype(row.dtype))),
    )


def _float_text(value: Any, row: ElementType) -> str:
    sign = "-" if np.signbit(value) else ""
    if math.isnan(value):
        return f"{sign}std::numeric_limits<{row.cpp}>::quiet_NaN()"
    if math.isinf(value):
        return f"{sign}std::numeric_limits<{row.cpp}>::infinity()"
    if row.numpy == "float64":
        return repr(float(value))
    # The shortest decimal that is unique among float32, spelled as Python spells float64.
    return repr(float(np.format_float_scientific(value, unique=True))) + "f"


def _integer_text(value: Any, row: ElementType) -> str:
    number = int(value)
    if row.kind == "b":
        return "true" if number else "false"
    if row.kind == "u":
        return f"{number}u"
    # There are no negative literals: the positive part of the smallest int32 or int64 is no int.
    if row.bits >= 32 and number == -(1 << (row.bits - 1)):
        return f"(-{-(number + 1)} - 1)"
    return str(number)


def _rows(texts: Iterable[str]) -> Iterator[str]:
    row: list[str] = []
    width = 0
    for text in texts:
        if row and width + len(text) > _ROW_WIDTH:
            yield ", ".join(row)
            row, width = [], 0
        row.append(text)
        width += len(text) + 2
    if row:
        yield ", ".join(row)
