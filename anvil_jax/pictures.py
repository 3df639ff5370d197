"""Sparsity you can see: spy plots, and small pictures for notebooks."""

import html
from typing import Any, Protocol

import numpy as np

from anvil_jax.errors import ArgumentError
from anvil_jax.sparsity.derivative import SparseDerivative

_CELLS = 160
"""Rows and columns of a notebook picture; larger patterns are drawn coarser."""

_PIXELS = 240


class SparseFunction(Protocol):
    """What has a pattern: see `SparseNumericalFunction` for the attributes."""

    name: str
    shape: tuple[int, int]
    nnz: int
    indices: np.ndarray
    indptr: np.ndarray
    derivative: SparseDerivative | None


def spy(fn: SparseFunction, ax: Any = None, *, colors: bool = True) -> Any:
    """Draw the pattern of a sparse function with matplotlib; see `SparseNumericalFunction.spy`.

    Args:
        fn: the function.
        ax: axes to draw into; new ones by default.
        colors: one colour per coloured pass, where the function is a derivative.

    Returns:
        The axes.

    Raises:
        ArgumentError: matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ArgumentError(
            "spy() needs matplotlib; install it with: pip install 'anvil_jax[plot]'"
        ) from error
    if ax is None:
        _, ax = pyplot.subplots()
    rows, cols = _entries(fn)
    passes = _passes(fn) if colors else None
    larger = max(*fn.shape, 1)
    size = float(np.clip((250.0 / larger) ** 2, 0.5, 80.0))
    cmap = "tab20" if passes is not None else None
    ax.scatter(cols, rows, s=size, marker="s", c=passes, cmap=cmap, linewidths=0)
    ax.set_xlim(-0.5, fn.shape[1] - 0.5)
    ax.set_ylim(fn.shape[0] - 0.5, -0.5)
    ax.set_aspect("equal")
    ax.set_title(f"{fn.name}\n{summary(fn)}", fontsize="small")
    return ax


def summary(fn: SparseFunction) -> str:
    """Size, number of entries and, for derivatives, the number of passes and its lower bound."""
    rows, cols = fn.shape
    text = f"{rows} x {cols}, {fn.nnz} non-zeros"
    if fn.derivative is None:
        return text
    coloring = fn.derivative.coloring
    passes = f"{coloring.passes} colour{'s' if coloring.passes != 1 else ''}"
    return f"{text}, {passes} ({coloring.kind}, at least {coloring.lower_bound})"


def pattern_html(fn: SparseFunction) -> str:
    """The pattern as an SVG picture with a caption; needs no other package."""
    rows, cols = _entries(fn)
    height, width = (max(n, 1) for n in fn.shape)
    coarse = max(1, -(-max(height, width) // _CELLS))
    cells = np.unique(np.stack([rows // coarse, cols // coarse]), axis=1).T
    unit = _PIXELS / max(-(-height // coarse), -(-width // coarse))
    size = (width / coarse * unit, height / coarse * unit)
    marks = "".join(
        f"M{j * unit:.2f} {i * unit:.2f}h{unit:.2f}v{unit:.2f}h-{unit:.2f}z" for i, j in cells
    )
    caption = html.escape(f"{fn.name}: {summary(fn)}")
    return (
        f'<figure><svg width="{size[0]:.0f}" height="{size[1]:.0f}" '
        f'viewBox="0 0 {size[0]:.2f} {size[1]:.2f}" role="img" aria-label="{caption}">'
        '<rect width="100%" height="100%" fill="none" stroke="currentColor"/>'
        f'<path d="{marks}" fill="#2a6fb0"/></svg><figcaption>{caption}</figcaption></figure>'
    )


def _entries(fn: SparseFunction) -> tuple[np.ndarray, np.ndarray]:
    return fn.indices, np.repeat(np.arange(fn.shape[1]), np.diff(fn.indptr))


def _passes(fn: SparseFunction) -> np.ndarray | None:
    """The pass that finds each entry."""
    if fn.derivative is None:
        return None
    coloring = fn.derivative.coloring
    rows, cols = _entries(fn)
    by_column, by_row = coloring.columns[cols], coloring.rows[rows] if coloring.rows.size else None
    if by_row is None or not coloring.n_reverse:
        return by_column
    return np.where(by_row >= 0, coloring.n_forward + by_row, by_column)
