"""Identifiers: what is refused, what is repaired, and how."""

import pytest

from anvil_jax.emit.names import check_identifier, identifier, is_identifier, unique_identifiers
from anvil_jax.errors import ArgumentError


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("params_w1", "params_w1"),
        ("θ", "theta"),
        ("Δt", "Deltat"),
        ("é", "e"),
        ("a b-c.d", "a_b_c_d"),
        ("_secret", "secret"),
        ("a__b", "a_b"),
        ("1st", "x_1st"),
        ("力", "x"),
        ("", "x"),
        ("class", "class_"),
        ("ws", "ws_"),
        ("IN0_t", "IN0_t_"),
        ("NULL", "NULL_"),
        ("std", "std_"),
        ("<lambda>", "lambda"),
    ],
)
def test_repair(text, name):
    assert identifier(text, "x") == name
    assert is_identifier(name)


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("double", "is a C\\+\\+ keyword"),
        ("Buffer", "is reserved in generated code"),
        ("OUT3_t", "is reserved in generated code"),
        ("a__b", "is reserved by C\\+\\+"),
        ("_a", "is reserved by C\\+\\+"),
        ("1a", "is not a C\\+\\+ identifier"),
        ("a-b", "use for example 'a_b'"),
        ("", "use for example 'function'"),
        (3, "must be a string, not int"),
    ],
)
def test_refusal(name, why):
    with pytest.raises(ArgumentError, match=why):
        check_identifier(name, "function")


def test_collisions_get_numbers_in_order():
    assert unique_identifiers(["a", "a", "b", "a"]) == ("a", "a_2", "b", "a_3")
    assert unique_identifiers(["a", "a", "a_2"]) == ("a", "a_3", "a_2")
    assert unique_identifiers(["a"], taken=["a"]) == ("a_2",)
    assert unique_identifiers(["class_", "class_"]) == ("class_", "class_2")
