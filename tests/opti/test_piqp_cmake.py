"""The CMake text of modules whose quadratic programs PIQP solves, up to an installed consumer."""

import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from anvil_jax.emit.environment import render_template
from anvil_jax.opti.piqp_native import find_piqp
from tests.opti.native_piqp import SUPPLIER, record_type
from tests.runtime.harness import module_text

CONSUMER = """
cmake_minimum_required(VERSION 3.16)
project(consumer LANGUAGES CXX)
find_package(mpc REQUIRED)
add_executable(consumer consumer.cpp)
target_link_libraries(consumer PRIVATE mpc::mpc)
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """An exported module with a supplier in it."""
    if shutil.which("cmake") is None or shutil.which("ninja") is None:
        pytest.skip("needs cmake and ninja")
    view = SimpleNamespace(name="mpc", generator="A test", cmake_option="MPC", has_c_abi=False)
    view.has_self_test, view.needs_piqp = False, True
    folder = tmp_path / "mpc"
    folder.mkdir()
    text = render_template("cmake/CMakeLists.txt.j2", module=view)
    (folder / "CMakeLists.txt").write_text(text, encoding="utf-8")
    (folder / "mpc.hpp").write_text('extern "C" int used();\n', encoding="utf-8")
    source = module_text(["piqp_supplier.hpp"], record_type() + SUPPLIER)
    (folder / "mpc.cpp").write_text(source, encoding="utf-8")
    return folder


def cmake(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs cmake."""
    command = ["cmake", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_without_piqp_the_message_says_what_to_do(module, tmp_path):
    options = ["-G", "Ninja", "-DCMAKE_DISABLE_FIND_PACKAGE_piqp=ON"]
    result = cmake("-S", module, "-B", tmp_path / "build", *options)
    assert result.returncode != 0
    assert "-DMPC_FETCH_PIQP=ON" in result.stderr


def test_installed_consumer(module, tmp_path):
    found = find_piqp()
    if found is None:
        pytest.skip("needs PIQP's C interface (ANVIL_JAX_PIQP_ROOT)")
    consumer, prefix = tmp_path / "consumer", tmp_path / "prefix"
    consumer.mkdir()
    (consumer / "CMakeLists.txt").write_text(CONSUMER, encoding="utf-8")
    main = "#include <mpc.hpp>\nint main() { return used() - 1; }\n"
    (consumer / "consumer.cpp").write_text(main, encoding="utf-8")
    options = ["-G", "Ninja", f"-Dpiqp_ROOT={found.library.parent.parent}"]
    options.append(f"-DCMAKE_INSTALL_PREFIX={prefix}")
    for folder in (module, consumer):
        build = folder / "build"
        result = cmake("-S", folder, "-B", build, *options, f"-Dmpc_ROOT={prefix}")
        assert result.returncode == 0, result.stderr
        result = cmake("--build", build)
        assert result.returncode == 0, result.stdout
        if folder == module:
            assert cmake("--install", build).returncode == 0
    subprocess.run([str(consumer / "build" / "consumer")], check=True)
