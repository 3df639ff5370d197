"""Factorisations, sorting and matrix products for Metal agree with NumPy, in any address space."""

import ctypes

import numpy as np
import pytest
import scipy.linalg

from anvil_jax.emit.metal_text import collect_metal_runtime, metal_dialect
from tests.support import metal_shim

pytestmark = pytest.mark.compile

# -- linear algebra and sorting: every pointer once in device, once in thread memory --------------


def _both_spaces(name: str, call: str, sizes: list[tuple[str, int]], inputs: int) -> str:
    """Kernels `name`_device and `name`_thread; `call` has $0, $1, ... for the arrays."""
    parameters = ", ".join(
        f"device {'const ' if k < inputs else ''}{t}* p{k}" for k, (t, _) in enumerate(sizes)
    )
    direct, local = call, call
    copies, back = "", ""
    for k, (t, size) in enumerate(sizes):
        direct = direct.replace(f"${k}", f"p{k}")
        local = local.replace(f"${k}", f"q{k}")
        copies += f"  {t} q{k}[{size}];\n"
        copies += f"  for (int i = 0; i < {size}; ++i) q{k}[i] = p{k}[i];\n"
        if k >= inputs:
            back += f"  for (int i = 0; i < {size}; ++i) p{k}[i] = q{k}[i];\n"
    return (
        f"kernel void {name}_device({parameters}) {{\n  {direct};\n}}\n"
        f"kernel void {name}_thread({parameters}) {{\n{copies}  {local};\n{back}}}\n"
    )


F, I = "float", "std::int32_t"  # noqa: E741
TRIANGLES = [
    (n, r, left, lower, transposed, unit)
    for n, r in ((4, 3), (5, 1))
    for left in (True, False)
    for lower in (True, False)
    for transposed in (True, False)
    for unit in (True, False)
]
SORTED_SIZES = (1, 2, 16, 17, 32, 33, 64, 65, 100, 300)


def _flags(*flags: bool) -> str:
    return ", ".join("true" if f else "false" for f in flags)


def _triangle_name(case: tuple[int, int, bool, bool, bool, bool]) -> str:
    return "solve" + "".join(f"_{int(part)}" for part in case)


def _array_kernels() -> str:
    text = [
        _both_spaces("cholesky", "anvil_rt::cholesky<float, 5>($0, $1)", [(F, 25), (F, 25)], 1),
        _both_spaces(
            "lu", "anvil_rt::lu<float, 5, 4>($0, $1, $2, $3)",
            [(F, 20), (F, 20), (I, 4), (I, 5)], 1,
        ),
        _both_spaces(
            "permutation", "anvil_rt::lu_pivots_to_permutation<3, 5>($0, $1)", [(I, 3), (I, 5)], 1
        ),
        _both_spaces(
            "geqrf", "anvil_rt::geqrf<float, 6, 4>($0, $1, $2)", [(F, 24), (F, 24), (F, 4)], 1
        ),
        _both_spaces(
            "product", "anvil_rt::householder_product<float, 6, 4, 4>($0, $1, $2)",
            [(F, 24), (F, 4), (F, 24)], 2,
        ),
        _both_spaces(
            "tridiagonal", "anvil_rt::tridiagonal_solve<float, 6, 2>($0, $1, $2, $3, $4)",
            [(F, 6), (F, 6), (F, 6), (F, 12), (F, 12)], 4,
        ),
        _both_spaces(
            "eigen", "anvil_rt::symmetric_eigen<float, 6>($0, $1, $2)",
            [(F, 36), (F, 36), (F, 6)], 1,
        ),
    ]  # fmt: skip
    for case in TRIANGLES:
        n, r = case[:2]
        call = f"anvil_rt::triangular_solve<float, {n}, {r}, {_flags(*case[2:])}>($0, $1, $2)"
        sizes = [(F, n * n), (F, n * r), (F, n * r)]
        text.append(_both_spaces(_triangle_name(case), call, sizes, 2))
    for n in SORTED_SIZES:
        keys = "anvil_rt::sort_order<{n}>(1, $3, $4, $0, $1); anvil_rt::reorder<{n}>(1, $3, $0, $2)"
        sizes = [(F, n), (I, n), (F, n), (I, n), (I, n)]
        text.append(_both_spaces(f"sort_{n}", keys.format(n=n), sizes, 2))
        top = f"anvil_rt::top_k_order<{n}>(1, $1, $2, $0)"
        text.append(_both_spaces(f"top_{n}", top, [(F, n), (I, n), (I, n)], 1))
        # Order and scratch in different address spaces; keys of two types; a stride.
        text.append(
            f"kernel void mixed_{n}(device const float* x, device std::int32_t* order) {{\n"
            f"  std::int32_t scratch[{n}];\n"
            f"  anvil_rt::sort_order<{n}>(2, order, scratch, x);\n}}\n"
        )
    return "".join(text)


_NO_BARRIER = 'extern "C" void anvil_metal_barrier() {}\n'


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("arrays")
    headers = ["cholesky.hpp", "lu.hpp", "qr.hpp", "triangular.hpp", "eigen.hpp", "sorting.hpp"]
    text = collect_metal_runtime(headers) + metal_dialect(_array_kernels())
    metal_shim.check(text, folder)
    return ctypes.CDLL(str(metal_shim.build(text, _NO_BARRIER, folder)))


SPACES = pytest.mark.parametrize("space", ["device", "thread"])


def _call(function: object, *operands: np.ndarray) -> None:
    assert callable(function)
    function(*(ctypes.c_void_p(a.ctypes.data) for a in operands))


def _random(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@SPACES
def test_cholesky(arrays: ctypes.CDLL, space: str):
    half = _random(5, 5)
    a = half @ half.T + np.eye(5, dtype=np.float32)
    out = np.empty_like(a)
    _call(arrays[f"cholesky_{space}"], a, out)
    np.testing.assert_allclose(np.tril(out), np.linalg.cholesky(a), rtol=2e-5, atol=1e-6)
    np.testing.assert_array_equal(np.triu(out, 1), np.triu(a, 1))
    a[3, 3] = -1
    _call(arrays[f"cholesky_{space}"], a, out)
    assert np.isnan(out).all()


@SPACES
def test_lu(arrays: ctypes.CDLL, space: str):
    a = _random(5, 4)
    factors = np.empty_like(a)
    pivots, permutation = np.empty(4, np.int32), np.empty(5, np.int32)
    _call(arrays[f"lu_{space}"], a, factors, pivots, permutation)
    expected, expected_pivots = scipy.linalg.lu_factor(a)
    np.testing.assert_array_equal(pivots, expected_pivots)
    np.testing.assert_allclose(factors, expected, rtol=1e-5, atol=1e-6)
    product = (np.tril(factors, -1) + np.eye(5, 4)) @ np.triu(factors[:4])
    np.testing.assert_allclose(product, a[permutation], atol=1e-6)
    short, full = np.array([2, 4, 3], np.int32), np.empty(5, np.int32)
    _call(arrays[f"permutation_{space}"], short, full)
    assert full.tolist() == [2, 4, 3, 0, 1]


@SPACES
def test_qr(arrays: ctypes.CDLL, space: str):
    for scale in (1.0, 1e25, 1e-25):
        a = _random(6, 4) * np.float32(scale)
        packed, taus, q = np.empty_like(a), np.empty(4, np.float32), np.empty_like(a)
        _call(arrays[f"geqrf_{space}"], a, packed, taus)
        _call(arrays[f"product_{space}"], packed, taus, q)
        np.testing.assert_allclose(q @ np.triu(packed[:4]), a, rtol=1e-5, atol=2e-6 * scale)
        _, expected = np.linalg.qr(a / np.float32(scale))
        np.testing.assert_allclose(
            np.triu(packed[:4]) / np.float32(scale), expected, rtol=1e-4, atol=1e-5
        )


@SPACES
@pytest.mark.parametrize("case", TRIANGLES, ids=_triangle_name)
def test_triangular_solve(
    arrays: ctypes.CDLL, case: tuple[int, int, bool, bool, bool, bool], space: str
):
    n, r, left, lower, transposed, unit = case
    a = _random(n, n) + np.float32(3) * np.eye(n, dtype=np.float32)
    b = _random(*((n, r) if left else (r, n)), seed=1)
    x = np.empty_like(b)
    _call(arrays[f"{_triangle_name(case)}_{space}"], a, b, x)
    matrix = (np.tril(a) if lower else np.triu(a)).astype(np.float64)
    if unit:
        np.fill_diagonal(matrix, 1)
    matrix = matrix.T if transposed else matrix
    expected = np.linalg.solve(matrix, b) if left else np.linalg.solve(matrix.T, b.T).T
    np.testing.assert_allclose(x, expected, rtol=1e-4, atol=1e-4)


@SPACES
def test_tridiagonal_solve(arrays: ctypes.CDLL, space: str):
    lower, main, upper = _random(3, 6)
    b = _random(6, 2, seed=1)
    x = np.empty_like(b)
    _call(arrays[f"tridiagonal_{space}"], lower, main, upper, b, x)
    matrix = np.diag(main) + np.diag(lower[1:], -1) + np.diag(upper[:-1], 1)
    np.testing.assert_allclose(x, np.linalg.solve(matrix.astype(float), b), rtol=1e-3, atol=1e-4)
    _call(arrays[f"tridiagonal_{space}"], lower * 0, main * 0, upper, b, x)
    assert np.isnan(x).all()


@SPACES
def test_symmetric_eigen(arrays: ctypes.CDLL, space: str):
    a = _random(6, 6)
    vectors, values = np.empty_like(a), np.empty(6, np.float32)
    _call(arrays[f"eigen_{space}"], a, vectors, values)
    full = np.tril(a) + np.tril(a, -1).T
    np.testing.assert_allclose(values, np.linalg.eigvalsh(full.astype(float)), atol=1e-5)
    np.testing.assert_allclose(vectors * values @ vectors.T, full, atol=1e-5)


@SPACES
@pytest.mark.parametrize("n", SORTED_SIZES)
def test_sorting(arrays: ctypes.CDLL, n: int, space: str):
    rng = np.random.default_rng(n)
    x = rng.integers(-5, 5, n).astype(np.float32)
    x[rng.random(n) < 0.1] = np.nan
    x[rng.random(n) < 0.1] = -0.0
    second = rng.integers(0, 3, n).astype(np.int32)
    out, order, scratch = np.empty_like(x), np.empty(n, np.int32), np.empty(n, np.int32)
    _call(arrays[f"sort_{n}_{space}"], x, second, out, order, scratch)
    expected = np.lexsort((second, x + 0.0))  # NaN last, both zeros equal
    np.testing.assert_array_equal(order, expected)
    np.testing.assert_array_equal(out, x[expected])

    _call(arrays[f"top_{n}_{space}"], x, order, scratch)
    bits = x.view(np.int32).astype(np.int64)
    rank = np.where(bits < 0, -(bits & 0x7FFFFFFF) - 1, bits)
    np.testing.assert_array_equal(order, np.argsort(-rank, kind="stable"))

    apart = np.zeros(2 * n, np.float32)
    apart[::2] = x
    _call(arrays[f"mixed_{n}"], apart, order)
    np.testing.assert_array_equal(order, np.argsort(x, kind="stable"))


# -- matrix products ------------------------------------------------------------------------------

# dtype, batch, m, n, k, and whether A and B are stored transposed.
PRODUCTS = [
    ("float32", 1, 1, 1, 1, False, False),
    ("float32", 2, 3, 5, 4, False, False),
    ("float32", 1, 64, 64, 16, False, False),
    ("float32", 2, 65, 70, 33, False, False),
    ("float32", 1, 130, 3, 17, True, False),
    ("float32", 1, 30, 129, 50, False, True),
    ("float32", 3, 66, 68, 20, True, True),
    ("float32", 1, 4, 5, 0, False, False),
    ("int32", 1, 65, 7, 18, False, False),
    ("int8", 2, 5, 66, 19, True, False),
    ("uint16", 1, 9, 8, 40, False, True),
    ("int64", 1, 70, 66, 20, False, False),
    ("bool", 2, 66, 5, 18, False, False),
]
FORMS = ("contract", "contract_by_threads", "contract_tiles")
_EDGE, _THREADS, _LANES = 64, 256, 7


def _ctype(dtype: str) -> str:
    return {"float32": "float", "bool": "bool"}.get(dtype, f"std::{dtype}_t")


def _product_kernels() -> str:
    text = []
    for number, (dtype, batch, m, n, k, a_turned, b_turned) in enumerate(PRODUCTS):
        t = _ctype(dtype)
        a_strides = (m * k, *((1, m) if a_turned else (k, 1)))
        b_strides = (k * n, *((1, k) if b_turned else (n, 1)))
        numbers = ", ".join(map(str, (batch, m, n, k, *a_strides, *b_strides)))
        operands = f"device const {t}* a, device const {t}* b, device {t}* c"
        text.append(
            f"kernel void contract_{number}({operands}) {{\n"
            f"  anvil_rt::contract<{t}, {numbers}>(a, b, c);\n}}\n"
            f"kernel void contract_by_threads_{number}({operands}, int lane) {{\n"
            f"  anvil_rt::contract_by_threads<{t}, {numbers}>(a, b, c, lane, {_LANES});\n}}\n"
            f"kernel void contract_tiles_{number}({operands},\n"
            "    uint group [[threadgroup_position_in_grid]],\n"
            "    uint lane [[thread_index_in_threadgroup]]) {\n"
            f"  ANVIL_THREADGROUP {t} tiles[2 * 16 * (64 + 4)];\n"
            f"  anvil_rt::contract_tiles<{t}, {numbers}>(a, b, c, static_cast<int>(group),\n"
            "      static_cast<int>(lane), tiles);\n}\n"
        )
    # Small products of arrays of one thread and of a constant table.
    text.append(
        "constant float table[6] = {0.0f, 1.0f, 2.0f, 3.0f, 4.0f, 5.0f};\n"
        "kernel void local(device float* c) {\n  float a[6], b[6], d[4];\n"
        "  for (int i = 0; i < 6; ++i) a[i] = b[i] = static_cast<float>(i);\n"
        "  anvil_rt::contract<float, 1, 2, 2, 3, 6, 3, 1, 6, 2, 1>(a, b, d);\n"
        "  anvil_rt::contract<float, 1, 2, 2, 3, 6, 3, 1, 6, 2, 1>(a, table, c);\n"
        "  for (int i = 0; i < 4; ++i) c[i] += d[i];\n}\n"
    )
    return "".join(text)


# The threads of a group run one after the other's barrier: a generation counter releases them.
_GROUPS = """
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace {
std::mutex mutex;
std::condition_variable all_here;
int waiting = 0;
int threads = 0;
long generation = 0;
}  // namespace

extern "C" void anvil_metal_barrier() {
  std::unique_lock<std::mutex> lock(mutex);
  const long mine = generation;
  if (++waiting == threads) {
    waiting = 0;
    ++generation;
    all_here.notify_all();
  } else {
    all_here.wait(lock, [mine] { return generation != mine; });
  }
}

using kernel_function = void (*)(const void*, const void*, void*, unsigned, unsigned);

extern "C" void run_groups(kernel_function kernel, const void* a, const void* b, void* c,
                           int groups, int lanes) {
  threads = lanes;
  for (int group = 0; group < groups; ++group) {
    std::vector<std::thread> pool;
    for (int lane = 0; lane < lanes; ++lane) {
      pool.emplace_back(kernel, a, b, c, static_cast<unsigned>(group),
                        static_cast<unsigned>(lane));
    }
    for (std::thread& thread : pool) thread.join();
  }
}
"""


@pytest.fixture(scope="module")
def products(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("products")
    text = collect_metal_runtime(["contraction.hpp"]) + metal_dialect(_product_kernels())
    metal_shim.check(text, folder)
    return ctypes.CDLL(str(metal_shim.build(text, _GROUPS, folder)))


def _run_form(library: ctypes.CDLL, form: str, number: int, operands: list[np.ndarray]) -> None:
    function = library[f"{form}_{number}"]
    pointers = [ctypes.c_void_p(x.ctypes.data) for x in operands]
    _, batch, m, n, *_ = PRODUCTS[number]
    if form == "contract":
        function(*pointers)
    elif form == "contract_by_threads":
        for lane in range(_LANES):
            function(*pointers, ctypes.c_int(lane))
    else:
        groups = batch * -(-m // _EDGE) * -(-n // _EDGE)
        library.run_groups(function, *pointers, groups, _THREADS)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("number", range(len(PRODUCTS)))
def test_products(products: ctypes.CDLL, number: int, form: str):
    dtype, batch, m, n, k, a_turned, b_turned = PRODUCTS[number]
    rng = np.random.default_rng(number)
    if dtype == "float32":
        a, b = (rng.standard_normal(s).astype(dtype) for s in ((batch, m, k), (batch, k, n)))
    elif dtype == "bool":
        a, b = (rng.random(s) < 0.2 for s in ((batch, m, k), (batch, k, n)))
    else:
        info = np.iinfo(dtype)
        a, b = (
            rng.integers(info.min, info.max, s, dtype, endpoint=True)
            for s in ((batch, m, k), (batch, k, n))
        )
    expected = a @ b  # integers wrap, and a product of bool is any/and
    stored = [
        np.ascontiguousarray(x.swapaxes(1, 2) if turned else x)
        for x, turned in ((a, a_turned), (b, b_turned))
    ]
    c = np.full(batch * m * n + 8, 1, dtype)
    _run_form(products, form, number, [*stored, c])
    found = c[: batch * m * n].reshape(batch, m, n)
    if dtype == "float32":
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
        one = np.empty_like(c)
        _run_form(products, "contract", number, [*stored, one])
        np.testing.assert_array_equal(found, one[: batch * m * n].reshape(batch, m, n))
    else:
        np.testing.assert_array_equal(found, expected)
    assert (c[batch * m * n :] == 1).all()


def test_products_of_local_arrays(products: ctypes.CDLL):
    c = np.empty(4, np.float32)
    _call(products.local, c)
    x = np.arange(6.0)
    np.testing.assert_array_equal(c, 2 * (x.reshape(2, 3) @ x.reshape(3, 2)).ravel())
