"""One `build` fixture: a test that asks for it runs once per compiler and once under UBSan."""

import os
import shutil

import jax
import pytest

from tests.runtime.harness import BUILDS, Builder


@pytest.fixture(scope="module", params=list(BUILDS))
def build(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Builder:
    """`build(headers, code)`, a compiled library."""
    command = BUILDS[request.param]
    if shutil.which(command[0]) is None:
        if os.environ.get("CI"):
            pytest.fail(f"CI must have {command[0]}", pytrace=False)
        pytest.skip(f"needs {command[0]}")
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "runtime"
    folder.mkdir(exist_ok=True)
    return Builder(command, folder)


@pytest.fixture(autouse=True)
def x64():
    """JAX is the reference in float64 too; the setting does not outlive the test."""
    with jax.enable_x64(True):
        yield
