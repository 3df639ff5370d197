"""Every name a user may import says what it is."""

import inspect

import anvil_jax


def _docstring(value: object) -> str:
    """The docstring somebody wrote for this object; none is inherited or made by `dataclass`."""
    text = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    if inspect.isclass(value) and text and text.startswith(f"{value.__name__}("):
        return ""
    return text or ""


def test_public_names_exist_once():
    assert [name for name in anvil_jax.__all__ if not hasattr(anvil_jax, name)] == []
    assert len(set(anvil_jax.__all__)) == len(anvil_jax.__all__)


def test_public_names_have_docstrings():
    values = {name: getattr(anvil_jax, name) for name in anvil_jax.__all__}
    documented = {
        name: value for name, value in values.items() if not isinstance(value, str | int | float)
    }
    assert documented
    assert [name for name, value in documented.items() if not _docstring(value).strip()] == []


def test_package_has_a_docstring():
    assert inspect.getdoc(anvil_jax)
