"""Integer constants: the same value in Python and in C++."""

import subprocess
from pathlib import Path
from typing import Any

import pytest

from anvil_jax import Arg, ArgumentError, CodegenIntConstant
from anvil_jax.constants import constant_views, order_constants
from anvil_jax.emit.module import render_module

N = CodegenIntConstant("N", 5)
M = CodegenIntConstant("M", -7)
# Values that a type checker would refuse.
ANY_HALF: Any = 1.5
ANY_TYPE: Any = "short"

BIG = CodegenIntConstant("BIG", 2**40, "int64_t")

FORMULAS = [
    (N + 1, 6, "N + 1"),
    (1 + N, 6, "1 + N"),
    (N - (M - 1), 13, "N - (M - 1)"),
    (N - M - 1, 11, "N - M - 1"),
    (2 * (N + M), -4, "2 * (N + M)"),
    (N * M * 2, -70, "N * M * 2"),
    (N * (M * 2), -70, "N * (M * 2)"),
    (-3 * N, -15, "(-3) * N"),
    (N + -3, 2, "N + (-3)"),
    (M // 2, -4, "floor_div(M, 2)"),
    (7 // M, -1, "floor_div(7, M)"),
    (M // -2, 3, "floor_div(M, -2)"),
    ((N + 1) // 2 * 3, 9, "floor_div(N + 1, 2) * 3"),
    (BIG * N + M, 2**40 * 5 - 7, "BIG * N + M"),
    (-(2**31) + BIG, 2**40 - 2**31, "(-2147483647 - 1) + BIG"),
]


@pytest.mark.parametrize(("formula", "value", "text"), FORMULAS)
def test_formula_keeps_value_and_text(formula, value, text):
    assert formula.value == value
    assert formula.text == text


@pytest.mark.compile
def test_cpp_computes_the_same(compiler: str, tmp_path: Path):
    constants = [
        CodegenIntConstant.from_expr(f"c{i}", formula, "int64_t")
        for i, (formula, _, _) in enumerate(FORMULAS)
    ]
    lowest = [
        CodegenIntConstant("lowest", -(2**31), "int32_t"),
        CodegenIntConstant("lowest64", -(2**63), "int64_t"),
    ]
    text = render_module("numbers", (), constant_views([*constants, *lowest]))
    (tmp_path / "numbers.hpp").write_text(text.header)
    checks = "\n".join(
        f"static_assert(numbers::c{i} == {value});" for i, (_, value, _) in enumerate(FORMULAS)
    )
    source = tmp_path / "check.cpp"
    source.write_text(
        f'#include "numbers.hpp"\n{checks}\nint main() {{ return numbers::N - 5; }}\n'
    )
    subprocess.run(
        [compiler, "-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow",
         "-Werror", "-fsyntax-only", source],
        check=True,
    )  # fmt: skip


def test_dependencies_come_first_and_once():
    a = CodegenIntConstant("a", 2)
    b = CodegenIntConstant.from_expr("b", a + 1)
    c = CodegenIntConstant.from_expr("c", b * a)
    assert c.dependencies() == (b, a)
    assert c.all_dependencies() == (a, b)
    assert [x.name for x in order_constants([c, b])] == ["a", "b", "c"]
    assert a.dependencies() == a.all_dependencies() == ()


def test_constant_is_an_integer_to_python():
    assert list(range(N)) == [0, 1, 2, 3, 4]
    assert Arg((N, N)).shape == (5, 5)
    assert int(N + 1) == 6


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: CodegenIntConstant("int", 1), "is a C\\+\\+ keyword"),
        (lambda: CodegenIntConstant("N", ANY_HALF), "must be an integer"),
        (lambda: CodegenIntConstant("N", True), "must be an integer"),
        (lambda: CodegenIntConstant("N", 2**31), "does not fit 32 bits"),
        (lambda: CodegenIntConstant("N", 2**63, "int64_t"), "does not fit 64 bits"),
        (lambda: CodegenIntConstant("N", 1, ANY_TYPE), "use one of int"),
        (lambda: CodegenIntConstant("K", 2**30) * 2, "K \\* 2 = 2147483648 does not fit"),
        (lambda: N // 0, "division by zero"),
        (lambda: CodegenIntConstant.from_expr("x", ANY_HALF), "is no integer"),
        (lambda: order_constants([N, CodegenIntConstant("N", 6)]), "two different constants"),
    ],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ArgumentError, match=message):
        make()


def test_arithmetic_with_other_types_is_refused():
    with pytest.raises(TypeError):
        _ = N + 1.5
