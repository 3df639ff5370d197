"""Literals read back to the same value in C++."""

import subprocess
from pathlib import Path

import numpy as np
import pytest

from anvil_jax.dtypes import ELEMENT_TYPES
from anvil_jax.emit.literals import literal, table
from anvil_jax.errors import DtypeError

CASES = [
    (1.0, "float64", "1.0"),
    (0.1, "float64", "0.1"),
    (-0.0, "float64", "(-0.0)"),
    (1e22, "float64", "1e+22"),
    (5e-324, "float64", "5e-324"),
    (np.inf, "float64", "std::numeric_limits<double>::infinity()"),
    (-np.inf, "float32", "(-std::numeric_limits<float>::infinity())"),
    (np.nan, "float64", "std::numeric_limits<double>::quiet_NaN()"),
    (-np.nan, "float64", "(-std::numeric_limits<double>::quiet_NaN())"),
    (0.1, "float32", "0.1f"),
    (16777216.0, "float32", "16777216.0f"),
    (1e-45, "float32", "1e-45f"),
    (-3, "int64", "std::int64_t{-3}"),
    (-(2**63), "int64", "std::int64_t{(-9223372036854775807 - 1)}"),
    (-(2**31), "int32", "std::int32_t{(-2147483647 - 1)}"),
    (-128, "int8", "std::int8_t{-128}"),
    (2**64 - 1, "uint64", "std::uint64_t{18446744073709551615u}"),
    (True, "bool", "true"),
    (np.array([[2.5]]), "float64", "2.5"),
]


@pytest.mark.parametrize(("value", "dtype", "text"), CASES)
def test_text(value, dtype, text):
    assert literal(value, dtype) == text


def extreme_values(dtype: str) -> np.ndarray:
    if dtype == "bool":
        return np.array([True, False])
    if dtype.startswith("float"):
        info = np.finfo(dtype)
        bits = np.random.RandomState(0).bytes(64 * info.dtype.itemsize)
        special = [info.max, info.min, info.tiny, info.smallest_subnormal, 0.0, -0.0, np.inf]
        return np.concatenate([np.array(special, dtype), np.frombuffer(bits, dtype)])
    info = np.iinfo(dtype)
    return np.array([info.min, info.min + 1, 0, 1, info.max], dtype)


@pytest.mark.compile
def test_literals_and_tables_keep_every_bit(compiler: str, tmp_path: Path):
    includes = ("cstdint", "cstdio", "cstring", "limits")
    lines = [f"#include <{include}>" for include in includes]
    body, wanted = [], b""
    for dtype, row in ELEMENT_TYPES.items():
        values = extreme_values(dtype)
        values = values[values == values]
        wanted += values.tobytes() * 2
        rows = table(values)
        text = ", ".join(literal(value, dtype) for value in values)
        lines.append(f"constexpr {rows.ctype} {rows.name}[{rows.size}] = {{")
        lines.extend(f"{r}," for r in rows.rows)
        lines.append("};")
        lines.append(f"constexpr {row.cpp} literals_{dtype}[] = {{{text}}};")
        body.append(f"std::fwrite({rows.name}, 1, sizeof({rows.name}), stdout);")
        body.append(f"std::fwrite(literals_{dtype}, 1, sizeof(literals_{dtype}), stdout);")
    source = tmp_path / "literals.cpp"
    source.write_text("\n".join([*lines, "int main() {", *body, "}"]))
    program = tmp_path / "literals"
    subprocess.run(
        [compiler, "-std=c++17", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror",
         source, "-o", program],
        check=True,
    )  # fmt: skip
    assert subprocess.run([program], check=True, capture_output=True).stdout == wanted


def test_table_is_named_after_its_contents():
    a = np.arange(6.0).reshape(2, 3)
    assert table(a).name == table(a.copy()).name == table(np.asfortranarray(a)).name
    assert table(a).name != table(a.T).name
    assert table(a).name != table(a.astype("float32")).name
    assert table(np.zeros(2)).name != table(-np.zeros(2)).name


def test_table_of_size_zero_is_a_legal_array():
    assert table(np.zeros((0, 3))).size == 1
    assert table(np.zeros((0, 3))).rows == ("0.0",)


def test_table_rows_fit_a_page():
    rows = table(np.random.RandomState(0).normal(size=100)).rows
    assert max(map(len, rows)) <= 92


@pytest.mark.parametrize("dtype", ["complex128", "float16", "U3", "O"])
def test_other_dtypes_are_refused(dtype):
    with pytest.raises(DtypeError):
        table(np.zeros(2, dtype))
