"""Run-time headers are joined so that the result compiles inside a namespace."""

import pytest

from anvil_jax.emit.environment import environment
from anvil_jax.emit.runtime import collect_runtime
from anvil_jax.errors import ExportError

FILES = {
    "a.hpp": '#pragma once\n#include <cmath>\n#include "b.hpp"\nint a();\n',
    "b.hpp": "#pragma once\n#include <array>\n#if defined(__AVX2__)\n#include <immintrin.h>\n"
    "#endif\n#if B\nint b1();\n#else\nint b2();\n#endif\n",
    "c.hpp": '#pragma once\n#  include "runtime/b.hpp"\n#include <array>  // why\nint c();',
    "x.hpp": '#include "y.hpp"\n',
    "y.hpp": '#include "x.hpp"\n',
}


def test_dependencies_come_first_and_once():
    joined = collect_runtime(["c.hpp", "a.hpp"], FILES.__getitem__)
    assert joined.headers == ("b.hpp", "a.hpp", "c.hpp")
    assert joined.includes == ("<array>", "<cmath>")
    assert joined.text == "#if B\nint b1();\n#else\nint b2();\n#endif\n\nint a();\n\nint c();"


def test_conditional_includes_leave_the_namespace_with_their_condition():
    joined = collect_runtime(["b.hpp"], FILES.__getitem__)
    assert joined.conditional_includes == ("#if defined(__AVX2__)\n#include <immintrin.h>\n#endif",)


def test_a_circle_is_named():
    with pytest.raises(ExportError, match=r"x\.hpp -> y\.hpp -> x\.hpp"):
        collect_runtime(["x.hpp"], FILES.__getitem__)


def test_nothing_needs_nothing():
    assert collect_runtime([]).text == ""


def test_every_installed_header_can_be_collected():
    names = [
        name.removeprefix("runtime/")
        for name in environment().list_templates(["hpp"])
        if name.startswith("runtime/")
    ]
    joined = collect_runtime(names)
    assert set(joined.headers) == set(names)
    assert "#include" not in joined.text
    assert "#pragma once" not in joined.text
