"""contraction.hpp against NumPy: every layout, tail and dtype, without reading out of bounds.

The operands end where a page that must not be read begins, so that a vector load past the end is
a crash and not a matter of luck.
"""

import ctypes
import itertools
import mmap

import numpy as np
import pytest

from tests.runtime.harness import DTYPES, symbol

pytestmark = pytest.mark.compile

# (batch, rows, columns, summed)
SHAPES = [
    (1, 1, 1, 1),
    (1, 3, 1, 2),
    (2, 4, 5, 3),
    (1, 13, 1, 17),
    (1, 17, 1, 13),
    (1, 64, 1, 64),
    (1, 1, 19, 33),
    (3, 2, 9, 40),
    (1, 9, 2, 40),
    (1, 17, 3, 5),
    (2, 6, 6, 6),
    (1, 12, 25, 31),
    (1, 33, 21, 130),
    (1, 5, 73, 20),
]
EDGES = [(0, 2, 3, 4), (2, 0, 3, 4), (2, 3, 0, 4), (2, 3, 4, 0)]
LAYOUTS = [("r", "r"), ("c", "r"), ("r", "c"), ("c", "c")]  # of A and B: row- or column-major
# Too large for the first-level cache: copied in panels, and k in pieces.
LARGE = [(1, 20, 70, 150, "r", "r"), (1, 37, 41, 200, "r", "c"), (1, 24, 90, 90, "c", "r")]
CASES = [
    *[
        ("double", *shape, *layout)
        for shape, pair in zip(SHAPES, itertools.cycle([LAYOUTS[:2], LAYOUTS[2:]]), strict=False)
        for layout in pair
    ],
    *[("double", *shape, "r", "r") for shape in EDGES],
    *[("double", *shape) for shape in LARGE],
    *[("double", 2, 5, 6, 7, "r", "strided"), ("double", 2, 7, 1, 6, "strided", "strided")],
    *[("double", 1, 1, 1, 50, "r", "strided"), ("double", 2, 9, 10, 11, "strided", "r")],
    *[
        (kind, 2, *shape, *layout)
        for kind in ("float", "std::int32_t", "std::uint16_t", "std::int8_t")
        for shape, layout in (
            ((9, 17, 40), ("r", "r")),
            ((9, 17, 40), ("r", "c")),
            ((35, 1, 20), ("c", "r")),
            ((35, 1, 70), ("r", "r")),
        )
    ],
    *[("bool", 2, 4, 5, 6, "r", layout) for layout in ("r", "c", "strided")],
    ("bool", 1, 3, 4, 0, "r", "r"),
]


def strides(rows, columns, layout):
    """Strides of the batch, the row and the column in elements."""
    if layout == "r":
        return rows * columns, columns, 1
    if layout == "c":
        return rows * columns, 1, rows
    return 2 * rows * columns, 2 * columns, 2


def call(case):
    kind, batch, m, n, k, left, right = case
    numbers = [batch, m, n, k, *strides(m, k, left), *strides(k, n, right)]
    arguments = ", ".join(map(str, numbers))
    name = symbol(*case)
    head = f"void {name}(const {kind}* a, const {kind}* b, {kind}* c)"
    return f'extern "C" {head};\n{head} {{ anvil_rt::contract<{kind}, {arguments}>(a, b, c); }}\n'


class Guarded:
    """An array whose last element is the last one before an inaccessible page."""

    def __init__(self, values: np.ndarray):
        page = mmap.PAGESIZE
        size = -(-max(values.nbytes, 1) // page) * page
        self.memory = mmap.mmap(-1, size + page)
        buffer = np.frombuffer(self.memory, np.uint8)
        libc = ctypes.CDLL(None)
        guard = ctypes.c_void_p(buffer.ctypes.data + size)
        assert libc.mprotect(guard, ctypes.c_size_t(page), 0) == 0
        self.array = buffer[size - values.nbytes : size].view(values.dtype)
        self.array[:] = values


def operand(generator, dtype, batch, rows, columns, layout):
    """Memory of an operand and the array of shape (batch, rows, columns) it stands for."""
    strided = strides(rows, columns, layout)
    last = (strided[0] * (batch - 1), strided[1] * (rows - 1), strided[2] * (columns - 1))
    size = sum(last) + 1 if batch * rows * columns else 0
    if dtype.kind == "f":
        memory = generator.normal(size=size).astype(dtype)
    elif dtype == np.bool_:
        memory = generator.random(size) < 0.3
    else:
        info = np.iinfo(dtype)
        memory = generator.integers(info.min, info.max, size, dtype, endpoint=True)
    memory = Guarded(memory).array
    index = sum(
        np.arange(count).reshape([-1 if axis == i else 1 for i in range(3)]) * strided[axis]
        for axis, count in enumerate((batch, rows, columns))
    )
    return memory, memory[index]


@pytest.fixture(scope="module")
def cases(build):
    """All of them, or every fourth where a product takes a third of a second to compile."""
    return CASES[::4] if build.is_slow else CASES


@pytest.fixture(scope="module")
def library(build, cases):
    return build(["contraction.hpp"], "\n".join(map(call, cases)))


@pytest.mark.parametrize("kind", dict.fromkeys(case[0] for case in CASES))
def test_equals_numpy(library, cases, kind):
    generator = np.random.default_rng(0)
    dtype = DTYPES[kind]
    for case in cases:
        if case[0] != kind:
            continue
        _, batch, m, n, k, left, right = case
        a, a_array = operand(generator, dtype, batch, m, k, left)
        b, b_array = operand(generator, dtype, batch, k, n, right)
        c = Guarded(np.ones(batch * m * n, dtype)).array
        library(symbol(*case), a, b, c)
        with np.errstate(over="ignore"):
            want = np.einsum("bmk,bkn->bmn", a_array, b_array)
        tolerance = 8 * np.finfo(dtype).eps * max(k, 1) if dtype.kind == "f" else 0
        got = c.reshape(batch, m, n)
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance, err_msg=str(case))


def test_zero_times_infinity_is_not_skipped(library, cases):
    for case in cases:
        kind, batch, rows, columns, count, left, right = case
        if kind != "double" or count == 0 or "strided" in (left, right):
            continue
        a = np.zeros(batch * rows * count)
        b = np.full(batch * count * columns, np.inf)
        c = np.zeros(batch * rows * columns)
        library(symbol(*case), a, b, c)
        assert np.isnan(c).all(), case
