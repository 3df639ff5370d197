"""The package as others get it: wheel, source distribution, editable install.

`anvil_jax/lowering` and `anvil_jax/templates` are links in the checkout and must be real folders
everywhere else. Builds happen in a copy; installs happen in one new environment outside it.
"""

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.policy.tracked import tracked_files

pytestmark = pytest.mark.packaging

LINKS = ("lowering", "templates")

# Runs in the new environment, from a folder that is not the checkout. The call at the end needs
# the rules, the templates and the runtime headers.
CHECK = """
import importlib.metadata
import pathlib
import sys

import numpy as np

import anvil_jax

package = pathlib.Path(anvil_jax.__file__).parent
assert package.is_relative_to(sys.argv[1]), package
assert importlib.metadata.version("anvil_jax") == sys.argv[2]
assert (package / "py.typed").is_file()
assert any((package / "lowering").glob("*.py"))
assert any((package / "templates").rglob("*.j2"))
assert any((package / "templates" / "runtime").glob("*.hpp"))

import jax.numpy as jnp

fn = anvil_jax.NumericalFunction("f", lambda x: jnp.sin(x) @ x, (anvil_jax.Arg(3),))
x = np.array([0.1, 0.2, 0.3])
np.testing.assert_allclose(fn(x), np.sin(x) @ x, rtol=1e-14)
assert anvil_jax.export(lambda x: 2 * x, anvil_jax.Arg(3), name="twice", path=".")

try:
    import lowering
except ImportError:
    pass
else:
    raise AssertionError("the bare name `lowering` was importable")
"""


def _run(*command: str | Path, cwd: Path) -> None:
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        words = " ".join(str(word) for word in command)
        pytest.fail(f"exit status {done.returncode}: {words}\n{done.stdout}", pytrace=False)


def _build(source: Path, output: Path) -> tuple[Path, Path]:
    """(wheel, sdist); both are built from the source, not one from the other."""
    for kind in ("--wheel", "--sdist"):
        _run(sys.executable, "-m", "build", kind, "--outdir", output, source, cwd=source.parent)
    (wheel,) = output.glob("*.whl")
    (sdist,) = output.glob("*.tar.gz")
    return wheel, sdist


def _wheel_names(path: Path) -> list[str]:
    with zipfile.ZipFile(path) as archive:
        return sorted(archive.namelist())


def _sdist_members(path: Path) -> dict[str, tarfile.TarInfo]:
    """Members by name without the leading ``<name>-<version>/``."""
    with tarfile.open(path) as archive:
        return {info.name.partition("/")[2]: info for info in archive.getmembers()}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that is removed at once: an environment with JAX is large."""
    with tempfile.TemporaryDirectory(prefix="anvil_jax-packaging-") as name:
        yield Path(name).resolve()


@pytest.fixture(scope="module")
def version(root) -> str:
    return tomllib.loads((root / "pyproject.toml").read_text("utf-8"))["project"]["version"]


@pytest.fixture(scope="module")
def source(root, folder) -> Path:
    """A copy of the files git knows, links kept."""
    copy = folder / "source"
    for path in tracked_files(root):
        target = copy / path.relative_to(root)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, target)
    for name in LINKS:
        (copy / "anvil_jax" / name).symlink_to(Path("..") / name)
    return copy


@pytest.fixture(scope="module")
def built(source, folder) -> tuple[Path, Path]:
    return _build(source, folder / "built")


@pytest.fixture(scope="module")
def python(folder) -> Path:
    """The interpreter of a new, empty environment."""
    _run(sys.executable, "-m", "venv", folder / "venv", cwd=folder)
    return folder / "venv" / "bin" / "python"


def _package_files(root: Path) -> set[str]:
    """What a user must get, by its name inside the archives."""
    names = {path.relative_to(root) for path in tracked_files(root)}
    inside = {str(name) for name in names if name.parts[0] == "anvil_jax"}
    linked = {f"anvil_jax/{name}" for name in names if name.parts[0] in LINKS}
    assert linked
    return inside | linked


def test_wheel_holds_the_package_and_nothing_else(root, built):
    names = set(_wheel_names(built[0]))
    assert {name for name in names if ".dist-info/" not in name} == _package_files(root)
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_sdist_holds_package_and_tests_as_real_files(root, built):
    members = _sdist_members(built[1])
    assert [name for name, info in members.items() if not info.isfile()] == []
    names = {str(path.relative_to(root)) for path in tracked_files(root)}
    assert members.keys() >= _package_files(root) | {n for n in names if n.startswith("tests/")}


def test_sdist_builds_the_same_archives_again(built, folder):
    unpacked = folder / "unpacked"
    with tarfile.open(built[1]) as archive:
        archive.extractall(unpacked, filter="data")
    (source,) = unpacked.iterdir()
    wheel, sdist = _build(source, folder / "rebuilt")
    assert _wheel_names(wheel) == _wheel_names(built[0])
    assert _sdist_members(sdist).keys() == _sdist_members(built[1]).keys()


@pytest.mark.compile
@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_installed_package_works(kind, source, built, python, folder, version, compilers):
    elsewhere = folder / f"elsewhere-{kind}"
    elsewhere.mkdir()
    what = ["--editable", source] if kind == "editable" else [built[0]]
    _run(python, "-m", "pip", "install", "--quiet", *what, cwd=elsewhere)
    home = source if kind == "editable" else folder / "venv"
    (elsewhere / "check.py").write_text(CHECK, encoding="utf-8")
    _run(python, "check.py", home, version, cwd=elsewhere)
