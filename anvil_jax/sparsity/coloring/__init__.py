"""Colourings: the few products with a matrix that contain all its entries.

A sparse Jacobian or Hessian is evaluated by passes: products with 0/1 vectors, each the sum of the
unit vectors of one colour. Nothing here knows JAX; patterns are SciPy sparse matrices.

Start with `color_jacobian` and `color_hessian`. `search` and `hessian` try the algorithms of
`greedy`, `lattice`, `split` and `symmetric` in turn, until a bound of `bounds` is reached or the
work they may do is used up. `anvil_jax.sparsity.recovery` makes the entries from the products.
"""

from anvil_jax.sparsity.coloring.hessian import color_hessian as color_hessian
from anvil_jax.sparsity.coloring.jacobian import color_jacobian as color_jacobian
from anvil_jax.sparsity.coloring.result import Coloring as Coloring
