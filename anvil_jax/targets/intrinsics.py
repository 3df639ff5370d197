"""The one table of named functions: what an intrinsic is called in C++, where it lives, its cost.

`cost` counts arithmetic operations and feeds the operation counts and the cost model.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Intrinsic:
    """How one intrinsic is spelled.

    Attributes:
        function: C++ template in namespace anvil_rt.
        header: file under templates/runtime that defines it.
        cost: operations of one evaluation.
    """

    function: str
    header: str
    cost: int


def _family(header: str, cost: int, *names: str, **renamed: str) -> dict[str, Intrinsic]:
    spelled = {name: name for name in names} | renamed
    return {name: Intrinsic(function, header, cost) for name, function in spelled.items()}


INTRINSICS: dict[str, Intrinsic] = {
    **_family("sincos.hpp", 12, "sin", "cos"),
    **_family(
        "exponential.hpp", 15, exp="fast_exp", tanh="fast_tanh", logistic="fast_logistic"
    ),
    **_family(
        "elementary.hpp", 20,
        "exp2", "expm1", "log", "log2", "log1p", "tan", "asin", "acos", "atan",
        "sinh", "cosh", "asinh", "acosh", "atanh", "erf", "erfc", "atan2", "pow", "fmod",
    ),
    **_family(
        "elementary.hpp", 1, "rsqrt", "floor", "ceil", "round_even", "round_away", "sign",
        "maximum", "minimum", "nextafter", "is_finite", "abs",
    ),
    **_family("cbrt.hpp", 20, "cbrt"),
    **_family("erf_inv.hpp", 60, "erf_inv"),
    **_family("bessel.hpp", 60, "bessel_i0e", "bessel_i1e"),
    **_family(
        "gamma.hpp", 60, "lgamma", "digamma", "igamma", "igammac", "polygamma", "zeta",
        "regularized_incomplete_beta",
    ),
    **_family(
        "integer.hpp", 1, "wrap_add", "wrap_sub", "wrap_mul", "wrap_neg", "int_div", "int_rem",
        "shift_left", "shift_right_logical", "shift_right_arithmetic", "popcount", "clz",
        "int_sign", "int_pow", int_abs="wrap_abs",
    ),
    **_family("extrema.hpp", 1, "int_max", "int_min"),
    **_family("convert.hpp", 1, "convert"),
    **_family("bitcast.hpp", 1, "bitcast"),
}  # fmt: skip
