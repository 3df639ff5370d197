"""A program: a tree of blocks whose statements say what is stored, repeated, chosen and called.

Expressions (`expression.py`) are pure and live outside the tree; `schedule.py` later finds the
block each one is computed in. Every value that crosses a statement boundary of control flow goes
through a `Buffer`, so the statements below are all there are.
"""

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from anvil_jax.dtypes import ELEMENT_TYPES
from anvil_jax.kernels.adapter import UOp

type Space = Literal["input", "output", "constant", "intermediate"]


@dataclass(eq=False, slots=True)
class Block:
    """Statements executed in order; `owner` is the statement whose body this is."""

    parent: "Block | None" = None
    owner: "Statement | None" = None
    statements: list["Statement"] = field(default_factory=list)

    @property
    def depth(self) -> int:
        """Number of enclosing blocks."""
        return 0 if self.parent is None else self.parent.depth + 1


@dataclass(eq=False, slots=True)
class Buffer:
    """A flat array of one dtype. Identity is the key: two buffers are never equal.

    Attributes:
        dtype: NumPy dtype name.
        size: number of elements.
        space: where it lives; intermediates become local arrays or workspace slices.
        position: index among inputs or outputs.
        data: contents of a constant.
        scope: block in which its contents are complete; loads may not move out of it.
        base: the buffer whose storage this one shares (loop carries, as seen from a loop body).
        mutable: storage is overwritten while loads of this buffer are alive, so each load must be
            a statement of its own, never repeated at its uses.
    """

    dtype: str
    size: int
    space: Space
    position: int = -1
    data: np.ndarray | None = None
    scope: Block | None = None
    base: "Buffer | None" = None
    mutable: bool = False

    @property
    def storage(self) -> "Buffer":
        """The buffer that owns the memory."""
        return self if self.base is None else self.base.storage

    @property
    def nbytes(self) -> int:
        """Size in bytes."""
        return self.size * (ELEMENT_TYPES[self.dtype].bits // 8)


@dataclass(eq=False, slots=True)
class Store:
    """``buffer[index] = value``."""

    order: int
    buffer: Buffer
    index: UOp
    value: UOp


@dataclass(eq=False, slots=True)
class For:
    """``for variable in range(trips): body``. `parallel`: no trip reads what another wrote."""

    order: int
    variable: UOp
    trips: int
    body: Block
    parallel: bool = False


@dataclass(eq=False, slots=True)
class Forever:
    """``while True: body``; a `BreakUnless` in the body ends it."""

    order: int
    body: Block


@dataclass(eq=False, slots=True)
class BreakUnless:
    """Leaves the innermost `Forever` when `condition` is false."""

    order: int
    condition: UOp


@dataclass(eq=False, slots=True)
class Switch:
    """Executes ``branches[selector]``; the selector lies in range(len(branches))."""

    order: int
    selector: UOp
    branches: tuple[Block, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Argument:
    """A pointer handed to a native function: `buffer` advanced by `offset` elements."""

    buffer: Buffer
    offset: UOp


@dataclass(eq=False, slots=True)
class Call:
    """A function of the run-time headers: ``function(literals..., reads..., writes...)``.

    Attributes:
        function: the instantiated template, e.g. ``cholesky<double, 3>``.
        header: file under templates/runtime that defines it.
        operations: arithmetic operations of one call.
        literals: leading integer arguments.
        product: batch, rows, columns and summands if this is a matrix product, whose elements can
            be computed independently of each other.
        writes_first: results come before operands in the parameter list.
    """

    order: int
    function: str
    header: str
    reads: tuple[Argument, ...]
    writes: tuple[Argument, ...]
    operations: int
    literals: tuple[int, ...] = ()
    writes_first: bool = False
    product: tuple[int, int, int, int] | None = None

    @property
    def arguments(self) -> tuple[Argument, ...]:
        """Pointers in the order of the parameter list."""
        if self.writes_first:
            return (*self.writes, *self.reads)
        return (*self.reads, *self.writes)


type Statement = Store | For | Forever | BreakUnless | Switch | Call


def bodies(statement: Statement) -> tuple[Block, ...]:
    """The blocks nested directly in a statement."""
    if isinstance(statement, For | Forever):
        return (statement.body,)
    return statement.branches if isinstance(statement, Switch) else ()


def operands(statement: Statement) -> tuple[UOp, ...]:
    """The expressions a statement uses itself (nested blocks not included)."""
    match statement:
        case Store():
            return (statement.index, statement.value)
        case BreakUnless():
            return (statement.condition,)
        case Switch():
            return (statement.selector,)
        case Call():
            return tuple(a.offset for a in statement.arguments)
        case _:
            return ()


def touched(statement: Statement) -> tuple[Buffer, ...]:
    """The buffers a statement names itself (loads inside expressions not included)."""
    if isinstance(statement, Store):
        return (statement.buffer,)
    if isinstance(statement, Call):
        return tuple(a.buffer for a in statement.arguments)
    return ()


@dataclass(eq=False, slots=True)
class Program:
    """One lowered function.

    Attributes:
        inputs, outputs: buffers in call order.
        constants: tables read by the program.
        root: outermost block.
        order: creation time of each expression (see `Expressions.order`).
    """

    inputs: tuple[Buffer, ...]
    outputs: tuple[Buffer, ...]
    constants: tuple[Buffer, ...]
    root: Block
    order: dict[UOp, int]
