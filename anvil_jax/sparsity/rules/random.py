"""Random numbers: bits do not depend on anything that has a derivative."""

from anvil_jax.sparsity.rules.registry import value_only

value_only(
    "iota_2x32_shape", "random_bits", "random_clone", "random_fold_in", "random_seed",
    "random_split", "random_unwrap", "random_wrap", "rng_bit_generator", "rng_uniform",
    "threefry2x32",
)  # fmt: skip
