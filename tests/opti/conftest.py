"""Which PIQP a test meets: the package, unless it asks for PIQP's C library."""

import os

import pytest

from anvil_jax.opti.piqp_native import NOWHERE, ROOT_VARIABLE, PiqpInstallation, find_piqp


@pytest.fixture
def piqp_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Solvers of this test call the piqp package, whatever is installed beside it."""
    monkeypatch.setenv(ROOT_VARIABLE, NOWHERE)


@pytest.fixture(scope="session")
def piqp_library() -> PiqpInstallation:
    """PIQP's C library, which solvers of this test find."""
    found = find_piqp()
    if found is None:
        if os.environ.get("CI"):
            pytest.fail(f"CI must have PIQP's C library ({ROOT_VARIABLE})", pytrace=False)
        pytest.skip(f"needs PIQP's C library ({ROOT_VARIABLE})")
    return found
