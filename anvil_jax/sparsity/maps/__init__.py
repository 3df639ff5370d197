"""Maps: the parts of a function that are the same small function for every stage or element.

`split_maps` undoes `jax.vmap`: it finds, in the jaxpr of a function, what is computed slice by
slice from affine functions of the inputs, and gives that computation for one slice. Start with
`assembly`, which puts together

    program      the jaxpr as a flat list of operations
    affine       which of them are nonlinear: the core
    axes         which axes run through the core (by `unbatching`, one rule per primitive)
    components   which parts of the core are mapped, and over which axes
    regions      what else belongs to a map: its results and its inputs are few
"""

from anvil_jax.sparsity.maps.assembly import Region as Region
from anvil_jax.sparsity.maps.assembly import Split as Split
from anvil_jax.sparsity.maps.assembly import recompose as recompose
from anvil_jax.sparsity.maps.assembly import split_maps as split_maps
