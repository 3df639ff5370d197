"""The one table of element types: NumPy name, C++ name, properties.

Everything that must know how a dtype is spelled somewhere asks this table; an absent dtype is an
unsupported dtype.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from anvil_jax.errors import DtypeError


@dataclass(frozen=True, slots=True)
class ElementType:
    """One supported dtype.

    Attributes:
        numpy: NumPy name, ``float64``.
        cpp: C++ spelling, ``double``.
        kind: NumPy kind character: f, i, u or b.
        bits: width in bits (8 for bool).
    """

    numpy: str
    cpp: str
    kind: str
    bits: int

    @property
    def dtype(self) -> np.dtype:
        """The NumPy dtype object."""
        return np.dtype(self.numpy)


ELEMENT_TYPES: dict[str, ElementType] = {
    e.numpy: e
    for e in (
        ElementType("float64", "double", "f", 64),
        ElementType("float32", "float", "f", 32),
        ElementType("int64", "std::int64_t", "i", 64),
        ElementType("int32", "std::int32_t", "i", 32),
        ElementType("int16", "std::int16_t", "i", 16),
        ElementType("int8", "std::int8_t", "i", 8),
        ElementType("uint64", "std::uint64_t", "u", 64),
        ElementType("uint32", "std::uint32_t", "u", 32),
        ElementType("uint16", "std::uint16_t", "u", 16),
        ElementType("uint8", "std::uint8_t", "u", 8),
        ElementType("bool", "bool", "b", 8),
    )
}


def element_type(dtype: Any, what: str = "value") -> ElementType:
    """The table's row for `dtype`.

    Raises:
        DtypeError: `dtype` has no C++ form here (complex, float16, strings, objects, ...).
    """
    try:
        name = np.dtype(dtype).name
    except TypeError:
        name = str(dtype)
    found = ELEMENT_TYPES.get(name)
    if found is None:
        raise DtypeError(
            f"{what} has dtype {name}, which is not supported; supported are "
            f"{', '.join(ELEMENT_TYPES)}. Convert it first, for example with .astype('float64')"
            + (" or split it into real and imaginary parts." if name.startswith("complex") else ".")
        )
    return found
