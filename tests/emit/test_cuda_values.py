"""Values of device text, from the same text on the host, where threads are emulated.

The mathematics is then the C library's and not CUDA's, so that a bound here says nothing about the
last bits on a device.
"""

import ctypes
import functools

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special as sp
from jax import enable_x64, lax

from anvil_jax.emit.cuda_text import collect_cuda_runtime
from tests.emit.test_cuda_text import HEADERS, TWO
from tests.runtime.harness import DTYPES, FLOATS, INTEGERS, Library, elementwise, symbol, ulp_error
from tests.runtime.test_contraction import CASES as PRODUCTS
from tests.runtime.test_contraction import Guarded, operand, strides
from tests.runtime.test_elementary import BINARY, EXACT, UNARY, sample
from tests.support.command import run
from tests.support.emulated import HOST
from tests.support.native import WARNINGS

pytestmark = pytest.mark.compile

SPECIAL_FUNCTIONS = {
    "erf_inv": sp.erfinv, "bessel_i0e": sp.i0e, "bessel_i1e": sp.i1e, "lgamma": sp.gammaln,
    "digamma": sp.digamma, "igamma": sp.gammainc, "igammac": sp.gammaincc,
    "polygamma": sp.polygamma, "zeta": sp.zeta, "regularized_incomplete_beta": sp.betainc,
}  # fmt: skip
WRAPPING = {
    "wrap_add": np.add, "wrap_sub": np.subtract, "wrap_mul": np.multiply, "int_div": lax.div,
    "int_rem": lax.rem, "shift_left": lax.shift_left, "int_max": np.maximum,
    "shift_right_logical": lax.shift_right_logical, "int_min": np.minimum,
    "shift_right_arithmetic": lax.shift_right_arithmetic,
}  # fmt: skip
WORDS = {
    "wrap_neg": np.negative, "wrap_abs": np.abs, "popcount": lax.population_count,
    "clz": lax.clz, "int_sign": lax.sign,
}  # fmt: skip

# Tails on every side, several tiles and batches, each layout; `c` and `strided` as in the tests of
# the header for the host.
TILES = [
    ("double", 1, 64, 64, 16, "r", "r"),
    ("double", 2, 65, 70, 33, "r", "r"),
    ("double", 1, 70, 5, 40, "c", "c"),
    ("double", 1, 3, 130, 17, "strided", "r"),
    ("float", 1, 100, 64, 20, "c", "r"),
    ("float", 2, 31, 67, 15, "r", "strided"),
    ("std::int8_t", 1, 65, 66, 18, "r", "c"),
    ("std::int64_t", 1, 20, 20, 50, "c", "r"),
    ("bool", 1, 66, 65, 7, "r", "r"),
    ("double", 2, 3, 4, 0, "r", "r"),
    ("double", 2, 0, 4, 5, "r", "r"),
    ("double", 0, 3, 4, 5, "r", "r"),
]
type Product = tuple[str, int, int, int, int, str, str]
ALL_PRODUCTS: list[Product] = list(dict.fromkeys([*PRODUCTS, *TILES]))


def elementwise_code():
    for kind in FLOATS:
        for name in [*UNARY, *EXACT]:
            yield elementwise(symbol(name, kind), [kind], kind, f"anvil_rt::{name}(x)")
        for name in [*BINARY, "pow", "atan2"]:
            yield elementwise(symbol(name, kind), [kind] * 2, kind, f"anvil_rt::{name}(x, y)")
        for name in SPECIAL_FUNCTIONS:
            letters = "xyz"[: 3 if name.startswith("regular") else 1 + (name in TWO)]
            call = f"anvil_rt::{name}({', '.join(letters)})"
            yield elementwise(symbol(name, kind), [kind] * len(letters), kind, call)
        both = f"[](auto v) {{ {kind} s, c; anvil_rt::sincos(v, s, c); return s * 4 + c; }}(x)"
        yield elementwise(symbol("sincos", kind), [kind], kind, both)
        yield elementwise(symbol("int_pow", kind), [kind], kind, "anvil_rt::int_pow(x, -3)")
        for word in INTEGERS:
            call = f"anvil_rt::convert<{word}>(x)"
            yield elementwise(symbol("convert", kind, word), [kind], word, call)
    call = "anvil_rt::bitcast<std::uint64_t>(x)"
    yield elementwise("bits", ["double"], "std::uint64_t", call)
    for word in INTEGERS:
        for name in WRAPPING:
            yield elementwise(symbol(name, word), [word] * 2, word, f"anvil_rt::{name}(x, y)")
        for name in WORDS:
            yield elementwise(symbol(name, word), [word], word, f"anvil_rt::{name}(x)")


def function(name: str, parameters: str, body: str) -> str:
    head = f"void {name}({parameters})"
    return f'extern "C" {head};\n{head} {{ {body} }}\n'


def product_code(case: Product) -> str:
    """The three forms of one product; tiles are stored to memory of either alignment.

    A block computes all tiles one after the other, so that it also has to wait between them.
    """
    kind, batch, m, n, k, left, right = case
    numbers = [batch, m, n, k, *strides(m, k, left), *strides(k, n, right)]
    arguments = f"<{kind}, {', '.join(map(str, numbers))}>"
    pointers = f"const {kind}* a, const {kind}* b, {kind}* c"
    text = function(
        symbol("one", *case), pointers, f"anvil_rt::contract{arguments}(a, b, c);"
    ) + function(
        symbol("threads", *case), pointers,
        f"for (int i = 0; i < 5; ++i) anvil_rt::contract_by_threads{arguments}(a, b, c, i, 5);",
    )  # fmt: skip
    if case not in TILES:
        return text
    text += function(
        symbol("tiles", *case),
        pointers,
        f"alignas(16) static {kind} tiles[anvil_rt::tile::storage];\n"
        "std::memset(tiles, 0xff, sizeof(tiles));\n"
        f"const int groups = anvil_rt::tile_groups({batch}, {m}, {n});\n"
        "anvil_host::launch(dim3(1), dim3(256), [=] {\n"
        "  const int lane = static_cast<int>(threadIdx.x);\n"
        "  for (int group = 0; group < groups; ++group)\n"
        f"    anvil_rt::contract_tiles{arguments}(a, b, c, group, lane, tiles);\n}});",
    )
    size = batch * m * n
    return text + function(
        symbol("shifted", *case),
        pointers,
        f"alignas(16) static {kind} own[{size} + 1];\n{symbol('tiles', *case)}(a, b, own + 1);\n"
        "std::memcpy(c, own + 1, sizeof(own) - sizeof(*own));",
    )


def matrix_code():
    for kind in FLOATS:
        yield function(
            symbol("factor", kind),
            f"const {kind}* a, const {kind}* s, {kind}* l, {kind}* f, std::int32_t* p, "
            f"{kind}* qr, {kind}* q, {kind}* v, {kind}* w, {kind}* x, {kind}* inverse",
            f"anvil_rt::cholesky<{kind}, 6>(s, l); anvil_rt::lu<{kind}, 7, 6>(a, f, p, p + 6);"
            f"{kind} t[6], copy[36]; anvil_rt::geqrf<{kind}, 7, 6>(a, qr, t);"
            f"anvil_rt::householder_product<{kind}, 7, 6, 6>(qr, t, q);"
            f"anvil_rt::symmetric_eigen<{kind}, 6>(s, v, w);"
            f"anvil_rt::triangular_solve<{kind}, 6, 7, true, true, false, false>(l, a, x);"
            f"anvil_rt::triangular_solve<{kind}, 6, 7, false, true, true, false>(l, a, x + 42);"
            f"std::memcpy(copy, s, sizeof(copy));"
            f"if (!anvil_rt::invert_matrix<{kind}, 6>(copy, inverse)) inverse[0] = 0;",
        )
        yield function(
            symbol("band", kind),
            f"const {kind}* l, const {kind}* d, const {kind}* u, const {kind}* b, {kind}* x",
            f"anvil_rt::tridiagonal_solve<{kind}, 9, 2>(l, d, u, b, x);",
        )
        yield function(
            symbol("sort", kind),
            f"const {kind}* keys, const {kind}* more, std::int32_t* order, std::int32_t* both, "
            f"std::int32_t* top, {kind}* sorted",
            "std::int32_t scratch[100]; anvil_rt::sort_order<100>(1, order, scratch, keys);"
            "anvil_rt::sort_order<100>(1, both, scratch, keys, more);"
            "anvil_rt::top_k_order<100>(1, top, scratch, keys);"
            "anvil_rt::reorder<100>(1, order, keys, sorted);",
        )


@pytest.fixture(autouse=True)
def x64():
    """JAX is the reference in float64 too; the setting does not outlive the test."""
    with enable_x64(True):
        yield


@pytest.fixture(scope="module")
def library(compilers: tuple[str, ...], tmp_path_factory: pytest.TempPathFactory) -> Library:
    products = map(product_code, ALL_PRODUCTS)
    includes = [f"#include {name}" for name in ("<cmath>", "<cstdint>", "<cstring>", f'"{HOST}"')]
    text = [
        *includes,
        collect_cuda_runtime(HEADERS),
        *elementwise_code(),
        *matrix_code(),
        *products,
    ]
    source = tmp_path_factory.mktemp("device") / "device.cpp"
    source.write_text("\n".join(text), encoding="utf-8")
    command = [
        compilers[0],
        "-std=c++17",
        "-O1",
        "-ffp-contract=off",
        *WARNINGS,
        "-shared",
        "-fPIC",
    ]
    run([*command, source, "-o", source.with_suffix(".so")])
    return Library(ctypes.CDLL(str(source.with_suffix(".so"))))


@pytest.fixture
def generator() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("name", UNARY)
def test_accuracy(library: Library, name: str, kind: str):
    reference, bound = UNARY[name]
    x = sample(DTYPES[kind])
    got = library.map(symbol(name, kind), DTYPES[kind], x)
    with np.errstate(all="ignore"):
        exact = reference(x.astype(np.longdouble))
    error = ulp_error(got, exact)
    if "logistic" in name:  # 1 / (1 + exp(-x)) underflows to 0 where exp(-x) overflows
        error[x < -np.log(float(np.finfo(x.dtype).max))] = 0
    worst = np.argmax(error)
    # Here the fast forms are those of the C library, whose tanh is off by 2.2 units.
    assert error[worst] <= max(bound, 2.5), f"{name}({x[worst]!r}) = {got[worst]!r}"


@pytest.mark.parametrize("kind", FLOATS)
def test_exact_and_two_operands(library: Library, generator: np.random.Generator, kind: str):
    dtype = DTYPES[kind]
    x = np.concatenate([[0.0, -0.0, 0.5, 1.5, -2.5, np.inf, np.nan], generator.normal(size=50) * 9])
    x = x.astype(dtype)
    for name, reference in EXACT.items():
        got = library.map(symbol(name, kind), dtype, x)
        np.testing.assert_array_equal(got, np.asarray(reference(x)), err_msg=name)
    x, y = (np.ascontiguousarray(side.ravel()) for side in np.meshgrid(x, x))
    for name, reference in (BINARY | {"pow": np.power, "atan2": np.arctan2}).items():
        got = library.map(symbol(name, kind), dtype, x, y)
        with np.errstate(all="ignore"):
            want = np.asarray(reference(x, y))
        np.testing.assert_allclose(got, want, rtol=4 * np.finfo(dtype).eps, err_msg=name)


@pytest.mark.parametrize("kind", FLOATS)
def test_sincos_and_power(library: Library, generator: np.random.Generator, kind: str):
    x = generator.normal(size=200).astype(DTYPES[kind])
    eps = np.finfo(x.dtype).eps
    got = library.map(symbol("sincos", kind), x.dtype, x)
    np.testing.assert_allclose(got, 4 * np.sin(x) + np.cos(x), rtol=4 * eps, atol=8 * eps)
    got = library.map(symbol("int_pow", kind), x.dtype, x)
    np.testing.assert_allclose(got, x**-3.0, rtol=8 * eps)


@pytest.mark.parametrize("kind", FLOATS)
@pytest.mark.parametrize("name", SPECIAL_FUNCTIONS)
def test_special_functions(library: Library, generator: np.random.Generator, name: str, kind: str):
    a, b = (10 ** generator.uniform(-1, 1.5, 300) for _ in range(2))
    unit = generator.uniform(0, 1, 300)
    inputs = {
        "erf_inv": [2 * unit - 1],
        "polygamma": [np.floor(5 * unit), a],
        "zeta": [1.1 + a, b],
        "regularized_incomplete_beta": [a, b, unit],
    }.get(name, [a, b] if name in TWO else [a])
    dtype = DTYPES[kind]
    rounded = [value.astype(dtype) for value in inputs]
    got = library.map(symbol(name, kind), dtype, *rounded)
    want = SPECIAL_FUNCTIONS[name](*[value.astype(float) for value in rounded])
    unit_of = 4 * np.finfo(dtype).eps
    np.testing.assert_allclose(got, want, rtol=max(2e-12, unit_of), atol=max(1e-13, unit_of))


@pytest.mark.parametrize("word", INTEGERS)
def test_integers(library: Library, generator: np.random.Generator, word: str):
    dtype = DTYPES[word]
    info = np.iinfo(dtype)
    edges = np.array([info.min, info.max, 0, 1, 2, 7], dtype)
    x = np.concatenate([edges, generator.integers(info.min, info.max, 30, dtype, endpoint=True)])
    x, y = (np.ascontiguousarray(side.ravel()) for side in np.meshgrid(x, x))
    with np.errstate(over="ignore"):
        for name, reference in WRAPPING.items():
            got = library.map(symbol(name, word), dtype, x, y)
            np.testing.assert_array_equal(got, np.asarray(reference(x, y)), err_msg=name)
        for name, reference in WORDS.items():
            got = library.map(symbol(name, word), dtype, x)
            np.testing.assert_array_equal(got, np.asarray(reference(x)), err_msg=name)
        for kind in FLOATS:
            numbers = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, -1.9, 2.5, 127])
            numbers = numbers.astype(DTYPES[kind])
            got = library.map(symbol("convert", kind, word), dtype, numbers)
            want = np.asarray(lax.convert_element_type(jnp.asarray(numbers), dtype))
            np.testing.assert_array_equal(got, want)


def test_bits_of_a_double(library: Library, generator: np.random.Generator):
    x = np.concatenate([[0.0, -0.0, np.inf, np.nan], generator.normal(size=20)])
    np.testing.assert_array_equal(library.map("bits", np.uint64, x), x.view(np.uint64))


@pytest.mark.parametrize("kind", FLOATS)
def test_matrices(library: Library, generator: np.random.Generator, kind: str):
    dtype = DTYPES[kind]
    a = generator.normal(size=(7, 6)).astype(dtype)
    s = (a.T @ a + np.eye(6)).astype(dtype)
    lower, vectors, inverse = (np.zeros((6, 6), dtype) for _ in range(3))
    factors, packed, q = (np.zeros((7, 6), dtype) for _ in range(3))
    order, values, x = np.zeros(13, np.int32), np.zeros(6, dtype), np.zeros(84, dtype)
    library(
        symbol("factor", kind), a, s, lower, factors, order, packed, q, vectors, values, x, inverse
    )
    close = functools.partial(
        np.testing.assert_allclose, rtol=400 * np.finfo(dtype).eps, atol=400 * np.finfo(dtype).eps
    )
    close(np.tril(lower), np.linalg.cholesky(s))
    square = np.tril(factors, -1)[:, :6] + np.eye(7, 6, dtype=dtype)
    close(square @ np.triu(factors[:6]), a[order[6:]])
    close(q @ np.triu(packed[:6]), a)
    close(q.T @ q, np.eye(6))
    close(values, np.linalg.eigvalsh(s))
    close(s @ vectors, vectors * values)
    close(s @ inverse, np.eye(6))
    close(np.tril(lower) @ x[:42].reshape(6, 7), a.reshape(6, 7))
    close(x[42:].reshape(7, 6) @ np.tril(lower).T, a)


@pytest.mark.parametrize("kind", FLOATS)
def test_tridiagonal(library: Library, generator: np.random.Generator, kind: str):
    below, main, above = (generator.uniform(1, 2, 9).astype(DTYPES[kind]) for _ in range(3))
    b = generator.normal(size=(9, 2)).astype(DTYPES[kind])
    x = np.zeros_like(b)
    library(symbol("band", kind), below, main, above, b, x)
    dense = np.diag(main) + np.diag(below[1:], -1) + np.diag(above[:-1], 1)
    np.testing.assert_allclose(dense @ x, b, atol=1000 * float(np.finfo(b.dtype).eps))


@pytest.mark.parametrize("kind", FLOATS)
def test_sorting(library: Library, generator: np.random.Generator, kind: str):
    keys, more = (generator.integers(0, 9, 100).astype(DTYPES[kind]) for _ in range(2))
    keys[::9] = np.nan
    order, both, top = (np.zeros(100, np.int32) for _ in range(3))
    ordered = np.zeros_like(keys)
    library(symbol("sort", kind), keys, more, order, both, top, ordered)
    np.testing.assert_array_equal(order, np.argsort(keys, stable=True))
    np.testing.assert_array_equal(ordered, np.sort(keys))
    np.testing.assert_array_equal(keys[both], np.sort(keys))
    np.testing.assert_array_equal(both, np.lexsort((np.arange(100), more, keys)))
    np.testing.assert_array_equal(top, lax.top_k(keys, 100)[1])


def check_product(library: Library, generator: np.random.Generator, form: str, case: Product):
    """The operands end before a page that must not be read."""
    kind, batch, m, n, k, left, right = case
    dtype = DTYPES[kind]
    a, a_array = operand(generator, dtype, batch, m, k, left)
    b, b_array = operand(generator, dtype, batch, k, n, right)
    with np.errstate(over="ignore"):
        want = np.einsum("bmk,bkn->bmn", a_array, b_array)
    tolerance = 8 * np.finfo(dtype).eps * max(k, 1) if dtype.kind == "f" else 0
    c = Guarded(np.ones(batch * m * n, dtype)).array
    library(symbol(form, *case), a, b, c)
    np.testing.assert_allclose(c.reshape(batch, m, n), want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("form", ["one", "threads"])
@pytest.mark.parametrize("case", ALL_PRODUCTS, ids=lambda case: symbol(*case))
def test_products(library: Library, generator: np.random.Generator, form: str, case: Product):
    check_product(library, generator, form, case)


@pytest.mark.parametrize("order", ["forward", "reverse", "shuffled"])
@pytest.mark.parametrize("form", ["tiles", "shifted"])
@pytest.mark.parametrize("case", TILES, ids=lambda case: symbol(*case))
def test_products_by_tiles(
    library: Library,
    generator: np.random.Generator,
    monkeypatch: pytest.MonkeyPatch,
    case: Product,
    form: str,
    order: str,
):
    """In every order of the threads, so that a barrier that is missing shows."""
    monkeypatch.setenv("ANVIL_EMULATED_ORDER", order)
    check_product(library, generator, form, case)


def test_zero_times_infinity_is_not_skipped_in_tiles(library: Library):
    case = ("double", 2, 65, 70, 33, "r", "r")
    a, b, c = np.zeros(2 * 65 * 33), np.full(2 * 33 * 70, np.inf), np.zeros(2 * 65 * 70)
    library(symbol("tiles", *case), a, b, c)
    assert np.isnan(c).all()
