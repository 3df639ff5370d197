"""Kernels: tinygrad UOp expressions, the program built from them, and its schedule.

This room and `anvil_jax.lowering` are the only ones that know tinygrad, and they know it through
`adapter.py` alone. Read in this order: `expression.py` (scalar expressions), `program.py` (blocks,
loops, stores, native calls), `schedule.py` (where each expression goes), `buffers.py` (workspace
layout).
"""
