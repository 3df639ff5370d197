"""How much work a scheduled program is."""

from anvil_jax.kernels.adapter import Ops, UOp, dtype_name
from anvil_jax.kernels.program import Block, Call, For, Program, Statement, Switch, bodies
from anvil_jax.kernels.schedule import Item, Schedule, is_atom
from anvil_jax.targets.intrinsics import INTRINSICS


def count_operations(program: Program, plan: Schedule) -> int:
    """Arithmetic operations of one call; loops with a known number of trips are multiplied out."""
    return Costs(plan).block(program.root)


class Costs:
    """Arithmetic operations of the parts of a program."""

    def __init__(self, plan: Schedule) -> None:
        """Add up the expressions of each block."""
        self._inside: dict[Block, int] = {}
        for node, block in plan.block_of.items():
            if not is_atom(node):
                self._inside[block] = self._inside.get(block, 0) + self._cost(node)

    def block(self, block: Block) -> int:
        """One execution of a block."""
        return self._inside.get(block, 0) + sum(map(self.statement, block.statements))

    def statement(self, statement: Statement) -> int:
        """One execution of a statement, without the expressions it uses itself."""
        return self._cost(statement)

    def _cost(self, item: Item) -> int:
        if isinstance(item, UOp):
            if item.op is Ops.CUSTOM:
                return INTRINSICS[item.arg].cost if item.arg in INTRINSICS else 1
            return int(item.op not in (Ops.LOAD, Ops.CAST) and dtype_name(item) != "index")
        if isinstance(item, Call):
            return item.operations
        if isinstance(item, Switch):
            return max(self.block(b) for b in item.branches)
        trips = item.trips if isinstance(item, For) else 1
        return trips * sum(self.block(b) for b in bodies(item))
