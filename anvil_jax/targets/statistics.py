"""How much work a scheduled program is."""

from anvil_jax.kernels.adapter import Ops, UOp, dtype_name
from anvil_jax.kernels.program import Block, Call, For, Program, Switch, bodies
from anvil_jax.kernels.schedule import Item, Schedule, is_atom
from anvil_jax.targets.intrinsics import INTRINSICS


def count_operations(program: Program, plan: Schedule) -> int:
    """Arithmetic operations of one call; loops with a known number of trips are multiplied out."""

    def cost(item: Item) -> int:
        if isinstance(item, UOp):
            if item.op is Ops.CUSTOM:
                return INTRINSICS[item.arg].cost if item.arg in INTRINSICS else 1
            return int(item.op not in (Ops.LOAD, Ops.CAST) and dtype_name(item) != "index")
        if isinstance(item, Call):
            return item.operations
        if isinstance(item, Switch):
            return max(total(b) for b in item.branches)
        trips = item.trips if isinstance(item, For) else 1
        return trips * sum(total(b) for b in bodies(item))

    inside: dict[Block, int] = {}
    for node, block in plan.block_of.items():
        if not is_atom(node):
            inside[block] = inside.get(block, 0) + cost(node)

    def total(block: Block) -> int:
        return inside.get(block, 0) + sum(cost(s) for s in block.statements)

    return total(program.root)
