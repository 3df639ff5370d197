"""Pictures of optimal control: needs matplotlib, ``pip install anvil_jax[plot]``."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from anvil_jax.errors import ArgumentError
from anvil_jax.opti.settings import SQPStatus

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from anvil_jax.opti.closed_loop import ClosedLoop


def plot_closed_loop(
    loop: "ClosedLoop",
    state_names: Sequence[str] | None = None,
    input_names: Sequence[str] | None = None,
) -> "Figure":
    """States, inputs and solution times of a closed loop, one above the other.

    Args:
        loop: the simulation.
        state_names: for the legend, default x0, x1, ...
        input_names: likewise, default u0, u1, ...

    Returns:
        The figure.

    Raises:
        ArgumentError: the number of names is wrong, or matplotlib is not installed.
    """
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise ArgumentError(
            "plot() needs matplotlib; install it with: pip install 'anvil_jax[plot]'"
        ) from error
    unit = 1.0 if loop.dt is None else loop.dt
    steps, nx = loop.states.shape[0] - 1, loop.states.shape[1]
    grid = unit * np.arange(steps + 1)
    figure, (top, middle, bottom) = pyplot.subplots(
        3, 1, sharex=True, height_ratios=(3, 2, 1), figsize=(7.0, 6.5), layout="constrained"
    )
    for name, values in zip(_names(state_names, nx, "x"), loop.states.T, strict=True):
        top.plot(grid, values, label=name)
    count = loop.inputs.shape[1]
    for name, values in zip(_names(input_names, count, "u"), loop.inputs.T, strict=True):
        middle.stairs(values, grid, baseline=None, label=name)
    bottom.plot(grid[:-1], 1e3 * loop.times, ".", color="black", label="to the input")
    if loop.preparation_times.any():
        bottom.plot(grid[1:-1], 1e3 * loop.preparation_times[1:], ".", label="preparation")
        bottom.legend(loc="upper right", fontsize="small")
    failed = np.array([status != SQPStatus.SOLVED for status in loop.statuses])
    bottom.plot(grid[:-1][failed], 1e3 * loop.times[failed], "x", color="red")
    bottom.set_yscale("log")
    for axes, label in ((top, "states"), (middle, "inputs"), (bottom, "solver (ms)")):
        axes.set_ylabel(label)
        axes.grid(alpha=0.3)
    for axes, size in ((top, nx), (middle, count)):
        if 0 < size <= 12:
            axes.legend(loc="upper right", fontsize="small", ncols=min(size, 4))
    bottom.set_xlabel("step" if loop.dt is None else "time")
    return figure


def _names(names: Sequence[str] | None, count: int, letter: str) -> Sequence[str]:
    if names is None:
        return [f"{letter}{k}" for k in range(count)]
    if len(names) != count:
        raise ArgumentError(f"{len(names)} names for {count} values")
    return names
