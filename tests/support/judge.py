"""Compares native results with JAX's."""

from collections.abc import Sequence

import numpy as np

from tests.cases.case import RTOL, SCALE


def difference(
    got: Sequence[np.ndarray],
    want: Sequence[np.ndarray],
    *,
    rtol: float | None = None,
    signed: bool = False,
) -> str | None:
    """What is wrong with the flat results `got`, None if nothing.

    Shapes and dtypes are exact, integers and booleans equal, NaN and infinities in the same places,
    other floating-point numbers within `rtol`; with `signed`, zeros have the same sign.
    """
    if len(got) != len(want):
        return f"{len(got)} results instead of {len(want)}"
    for k, (g, w) in enumerate(zip(got, want, strict=True)):
        found = _array_difference(g, w, rtol, signed)
        if found is not None:
            return f"result {k}: {found}"
    return None


def _array_difference(
    got: np.ndarray, want: np.ndarray, rtol: float | None, signed: bool
) -> str | None:
    if (got.shape, got.dtype) != (want.shape, want.dtype):
        return f"{got.dtype}{got.shape} instead of {want.dtype}{want.shape}"
    if want.dtype.kind != "f":
        return _first(got != want, got, want)
    limit = RTOL[want.dtype.name] if rtol is None else rtol
    g, w = got.astype(np.float64), want.astype(np.float64)
    with np.errstate(all="ignore"):
        near = np.abs(g - w) <= limit * (np.abs(w) + SCALE)
    right = np.where(np.isfinite(w), near, (g == w) | (np.isnan(g) & np.isnan(w)))
    if signed:
        right &= (w != 0) | (np.signbit(g) == np.signbit(w))
    return _first(~right, got, want)


def _first(wrong: np.ndarray, got: np.ndarray, want: np.ndarray) -> str | None:
    if not wrong.any():
        return None
    place = tuple(int(k) for k in np.argwhere(wrong)[0])
    return (
        f"{int(wrong.sum())} of {wrong.size} elements differ, the first at {place}: "
        f"{got[place]!r} instead of {want[place]!r}"
    )
