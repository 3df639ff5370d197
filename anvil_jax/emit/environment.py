"""The one Jinja2 environment: strict, with predictable white space.

Templates are handed decided, frozen views: they loop and print. An undefined name is an error, a
line that holds only a tag leaves no trace in the text.
"""

import functools

from jinja2 import Environment, PackageLoader, StrictUndefined


@functools.cache
def environment() -> Environment:
    """The environment that loads ``anvil_jax/templates``."""
    return Environment(
        loader=PackageLoader("anvil_jax", "templates"),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
        auto_reload=False,
    )


def template_source(path: str) -> str:
    """Text of one file, ``runtime/cholesky.hpp``, as it is.

    Raises:
        TemplateNotFound: there is none.
    """
    loader = environment().loader
    assert loader is not None  # it has been made with one
    return loader.get_source(environment(), path)[0]


def render_template(path: str, **views: object) -> str:
    """Text of one template, ``cpu/module.hpp.j2``, filled with `views`."""
    return environment().get_template(path).render(**views)
