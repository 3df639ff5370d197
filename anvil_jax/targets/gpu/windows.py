"""Arrays that are parts of an output from the start, so that nothing has to be copied there.

A loop over instances computes each result in an array of its own and then copies that to its place
in the output. Where nobody else writes to the output, the array can be that place.
"""

from dataclasses import dataclass

from anvil_jax.kernels.adapter import Ops, UOp
from anvil_jax.kernels.index_arithmetic import Affine, affine
from anvil_jax.kernels.program import Buffer, Call, For, Program, Statement, Store, operands
from anvil_jax.kernels.schedule import loaded, walk, written


@dataclass(frozen=True, slots=True)
class Window:
    """Where an array lies: in `buffer`, from the element `first` on."""

    buffer: Buffer
    first: Affine


class Windows:
    """Finds windows.

    Attributes:
        found: by array.
    """

    def __init__(self, program: Program) -> None:
        """Look at all of a program that has no dead statements."""
        self.found: dict[Buffer, Window] = {}
        self._writers: dict[Buffer, list[Statement]] = {}
        self._read: set[Buffer] = set()
        roots: list[UOp] = []
        for _, statement in walk(program.root):
            for buffer in written(statement):
                self._writers.setdefault(buffer.storage, []).append(statement)
            if isinstance(statement, Call):
                self._read |= {argument.buffer.storage for argument in statement.reads}
            roots.extend(operands(statement))
        self._read |= loaded(roots).keys()

    def makes_superfluous(self, loop: Statement) -> bool:
        """Whether `loop` only copies an array to an output; remembers the window if so."""
        match loop:
            case For(body=body, variable=counter, trips=trips):
                pass
            case _:
                return False
        if len(body.statements) != 1 or not isinstance(store := body.statements[0], Store):
            return False
        source, target = _copied(store, counter), store.buffer.storage
        place = affine(store.index)
        if source is None or place is None or place.coefficients.get(counter) != 1:
            return False
        if source.base is not None or source.space != "intermediate" or source.size != trips:
            return False
        if source.scope is not body.parent or source in self.found:
            return False
        is_alone = self._writers[target] == [store] and target not in self._read
        is_complete = all(w.order < loop.order for w in self._writers.get(source, []))
        if target.space != "output" or target.dtype != source.dtype:
            return False
        if not is_alone or not is_complete:
            return False
        outer = {node: c for node, c in place.coefficients.items() if node is not counter}
        self.found[source] = Window(target, Affine(place.constant, outer))
        return True


def _copied(store: Store, counter: UOp) -> Buffer | None:
    """The array of which `store` takes the element with the number `counter`."""
    load = store.value
    if load.op is not Ops.LOAD or load.src[0].src[1] is not counter:
        return None
    return load.src[0].src[0].arg
