"""Generated text is the same bytes whatever the hash seed, the process and the folder."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import sys

import jax
import jax.numpy as jnp
import numpy as np

import anvil_jax as av

TABLE = np.arange(12.0).reshape(3, 4) / 7


def model(state, control):
    def stage(carry, row):
        carry = jnp.sin(carry) * control["gain"] + row[:3]
        return carry, carry @ row[1:]

    last, costs = jax.lax.scan(stage, state["x"], jnp.tile(TABLE, (2, 1)))
    return {"last": last, "cost": jnp.sum(costs) + state["offset"], "rows": TABLE @ control["u"]}


f64 = np.float64
av.export(
    model,
    {"x": jax.ShapeDtypeStruct((3,), f64), "offset": jax.ShapeDtypeStruct((), f64)},
    {"gain": jax.ShapeDtypeStruct((), f64), "u": jax.ShapeDtypeStruct((4,), f64)},
    name="model",
    path=sys.argv[1],
)
"""


def _generate(folder: Path, seed: str) -> dict[str, bytes]:
    folder.mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder)],
        env=os.environ | {"PYTHONHASHSEED": seed},
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_same_bytes_under_different_hash_seeds(tmp_path):
    first = _generate(tmp_path / "a", "1")
    second = _generate(tmp_path / "other" / "b", "4242")
    assert {Path(name).suffix for name in first} >= {".hpp", ".cpp"}
    assert first.keys() == second.keys()
    assert [name for name in first if first[name] != second[name]] == []
