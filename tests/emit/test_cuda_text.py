"""Device text: what is marked, and that NVIDIA's compilers take every header."""

import shutil
from pathlib import Path

import pytest

from anvil_jax.emit.cuda_text import collect_cuda_runtime, cuda_dialect
from anvil_jax.errors import ExportError
from anvil_jax.targets.intrinsics import INTRINSICS
from tests.requirements import require_cuda
from tests.runtime.harness import FLOATS, symbol
from tests.support.cuda_compilers import compile_text, compile_with_nvcc

HEADERS = [
    "bessel.hpp", "bitcast.hpp", "cbrt.hpp", "cholesky.hpp", "contraction.hpp", "convert.hpp",
    "eigen.hpp", "elementary.hpp", "erf_inv.hpp", "exponential.hpp", "extrema.hpp", "gamma.hpp",
    "integer.hpp", "inverse.hpp", "lu.hpp", "qr.hpp", "rows.hpp", "sincos.hpp", "sorting.hpp",
    "triangular.hpp",
]  # fmt: skip
SHADOWED = ["sincos.hpp", "exponential.hpp", "contraction.hpp"]

# --------------------------------------------------------------------------------------------
# The text.
# --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "want"),
    [
        ("inline int f() {", "__device__ inline int f() {"),
        ("template <class T>\ninline T f()", "template <class T>\n__device__ inline T f()"),
        ("constexpr T f(T x) {", "__device__ constexpr T f(T x) {"),
        (
            "__attribute__((always_inline)) inline T f() {",
            "__device__ __forceinline__ T f() {",
        ),
        ("inline typename a<T>::type\nf(T x) {", "__device__ inline typename a<T>::type\nf(T x) {"),
        ("constexpr int n = f(3);", "constexpr int n = f(3);"),
        ("inline constexpr int n{f(3)};", "inline constexpr int n{f(3)};"),
        ("template <int N>\nconstexpr int n = g(N);", "template <int N>\nconstexpr int n = g(N);"),
        ("  constexpr int f() {", "  constexpr int f() {"),
        ("std::exp(my_std::x)", "anvil_std::exp(my_std::x)"),
        ("__builtin_clzll(x)", "anvil_std::clzll(x)"),
        ("inline_depth(3);", "inline_depth(3);"),
    ],
)  # fmt: skip
def test_dialect(text: str, want: str):
    assert cuda_dialect(text) == want


def test_nothing_is_included_and_every_header_comes_once():
    text = collect_cuda_runtime(["qr.hpp", "cholesky.hpp", "qr.hpp"])
    assert "#include" not in text
    assert "#pragma once" not in text
    assert " std::" not in text
    assert text.count("namespace anvil_std {") == 1
    assert text.count("void geqrf(") == 1


@pytest.mark.parametrize("name", SHADOWED)
def test_a_header_of_the_device_takes_the_place_of_the_general_one(name: str):
    root = Path(__file__).resolve().parents[2] / "templates"
    own = (root / "cuda" / "runtime" / name).read_text(encoding="utf-8")
    assert cuda_dialect(own).split("namespace anvil_rt {")[1] in collect_cuda_runtime([name])
    assert (root / "runtime" / name).is_file()


def test_an_unknown_header_is_named():
    with pytest.raises(ExportError, match=r"nothing\.hpp"):
        collect_cuda_runtime(["nothing.hpp"])


# --------------------------------------------------------------------------------------------
# NVIDIA's compilers.
# --------------------------------------------------------------------------------------------

INTEGERS = {"integer.hpp", "extrema.hpp"}
# Other numbers of arguments than one, and arguments that are not the element type.
TWO = {
    "atan2", "pow", "fmod", "maximum", "minimum", "nextafter", "igamma", "igammac", "polygamma",
    "zeta", "wrap_add", "wrap_sub", "wrap_mul", "int_div", "int_rem", "shift_left",
    "shift_right_logical", "shift_right_arithmetic", "int_max", "int_min",
}  # fmt: skip
CALLS = {
    "regularized_incomplete_beta": "(x, y, y)",
    "int_pow": "(x, 5)",
}


def kernels() -> str:
    """One kernel for each intrinsic of each element type, and one for the fixed-size headers."""
    lines = []
    for intrinsic in sorted(INTRINSICS.values(), key=lambda row: row.function):
        name = intrinsic.function
        whole = intrinsic.header in INTEGERS
        kinds = [f"anvil_std::{s}int{n}_t" for s in ("", "u") for n in (8, 16, 32, 64)]
        for kind in kinds if whole else FLOATS:
            call = CALLS.get(name, "(x, y)" if name in TWO else "(x)")
            if name == "convert":
                call = f"<{kind}>(anvil_rt::convert<anvil_std::int32_t>(x))"
            if name == "bitcast":
                bits = "int32_t" if kind == "float" else "int64_t"
                call = f"<{kind}>(anvil_rt::bitcast<anvil_std::{bits}>(x))"
            lines.append(
                f'extern "C" __global__ void {symbol(name, kind)}({kind}* p) {{\n'
                f"  const {kind} x = p[0], y = p[1];\n  p[2] = x + y;\n"
                f"  p[3] = static_cast<{kind}>(anvil_rt::{name}{call});\n}}"
            )
    for kind in FLOATS:
        lines.append(
            f'extern "C" __global__ void {symbol("fixed", kind)}({kind}* p, '
            "anvil_std::int32_t* q) {\n" + fixed_size_calls(kind) + "}"
        )
        lines.append(
            f'extern "C" __global__ void {symbol("tiles", kind)}({kind}* p) {{\n'
            f"  alignas(16) __shared__ {kind} tiles[anvil_rt::tile::storage];\n"
            f"  anvil_rt::contract_tiles<{kind}, 2, 65, 70, 33, 2145, 33, 1, 2310, 70, 1>("
            "p, p + 5000, p + 10000, blockIdx.x, threadIdx.x, tiles);\n}"
        )
    return "\n".join(lines)


def fixed_size_calls(kind: str) -> str:
    """The templates of a fixed size: every one, called with pointers p and q."""
    return f"""\
  {kind} sine, cosine;
  anvil_rt::sincos<{kind}>(p[0], sine, cosine);
  p[1] = sine + cosine + anvil_rt::fast_expm1(p[2]) + anvil_rt::fast_log(p[3]);
  p[1] += anvil_rt::sqrt(p[4]) + anvil_rt::trunc(p[5]) + anvil_rt::copysign(p[4], p[5]);
  p[1] += anvil_rt::int_pow(p[6], -3);
  anvil_rt::cholesky<{kind}, 3>(p, p + 9);
  anvil_rt::lu<{kind}, 3, 4>(p, p + 12, q, q + 3);
  anvil_rt::geqrf<{kind}, 4, 3>(p, p + 12, p + 24);
  anvil_rt::householder_product<{kind}, 4, 3, 3>(p, p + 12, p + 24);
  anvil_rt::triangular_solve<{kind}, 3, 2, true, true, false, false>(p, p + 9, p + 15);
  anvil_rt::triangular_solve<{kind}, 3, 1, false, false, true, true>(p, p + 9, p + 15);
  anvil_rt::tridiagonal_solve<{kind}, 4, 2>(p, p + 4, p + 8, p + 12, p + 20);
  anvil_rt::symmetric_eigen<{kind}, 3>(p, p + 9, p + 18);
  if (!anvil_rt::invert_matrix<{kind}, 3>(p, p + 9)) p[0] = 0;
  anvil_rt::sort_order<40>(1, q, q + 40, p, p + 40);
  anvil_rt::top_k_order<20>(1, q, q + 40, p);
  anvil_rt::reorder<20>(1, q, p, p + 40);
  anvil_rt::contract<{kind}, 1, 3, 4, 5, 15, 5, 1, 20, 4, 1>(p, p + 20, p + 50);
  anvil_rt::contract_by_threads<{kind}, 1, 3, 4, 5, 15, 5, 1, 20, 4, 1>(
      p, p + 20, p + 50, static_cast<int>(threadIdx.x), static_cast<int>(blockDim.x));
"""


def separate_text() -> str:
    """Each header alone, in a namespace of its own; then all in an unnamed one, and the kernels."""
    alone = [
        f"namespace only_{name.removesuffix('.hpp')} {{\n{collect_cuda_runtime([name])}}}\n"
        for name in HEADERS
    ]
    together = f"namespace {{\n{collect_cuda_runtime(HEADERS)}}}\n"
    return "\n".join([*alone, together, kernels(), ""])


@pytest.mark.parametrize("architecture", [75, 90])
def test_nvrtc_compiles_every_header(architecture: int):
    require_cuda()
    code, _ = compile_text(separate_text(), architecture)
    assert code[:4] == b"\x7fELF"


def test_nvrtc_tells_why_it_fails():
    require_cuda()
    with pytest.raises(AssertionError, match="nonsense"):
        compile_text("nonsense", 80)


@pytest.mark.compile
@pytest.mark.skipif(shutil.which("nvcc") is None, reason="nvcc is not installed")
def test_nvcc_compiles_every_header(tmp_path: Path):
    compile_with_nvcc(separate_text(), 80, tmp_path, ("-Werror", "all-warnings"))
