"""Tests for jaxflow._checks."""

import pytest

from jaxflow import _checks


def test_one_of_lists_what_is_allowed():
    _checks.one_of("kind", "a", ("a", "b"))
    with pytest.raises(ValueError, match="`kind` must be one of 'a', 'b'; got 'c'"):
        _checks.one_of("kind", "c", ("a", "b"))


@pytest.mark.parametrize("value", [0, -1.5, float("nan")])
def test_positive_names_the_argument_and_its_value(value):
    _checks.positive("size", 1)
    with pytest.raises(ValueError, match=f"`size` must be positive; got {value}"):
        _checks.positive("size", value)


def test_an_extra_is_installed_by_the_name_of_the_distribution():
    assert _checks.install_line("video") == 'pip install "jaxflow-motion[video]"'
