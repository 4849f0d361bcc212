"""Tests for jaxflow._checks."""

import numpy as np
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


class VersionError(Exception):
    """What protobuf raises; it is no ImportError."""


INCOMPATIBLE = (
    "Detected incompatible Protobuf Gencode/Runtime versions when loading {}: gencode "
    "6.31.1 runtime 5.29.6. Runtime version cannot be older than the linked gencode "
    "version. See Protobuf version guarantees at https://protobuf.dev/support/."
)


@pytest.mark.parametrize(
    ("error", "reason", "line"),
    [
        (
            ModuleNotFoundError("No module named 'av'"),
            "No module named 'av'",
            'pip install "jaxflow-motion[data]"',
        ),
        (AttributeError(), "AttributeError", 'pip install "jaxflow-motion[data]"'),
        (
            VersionError(INCOMPATIBLE.format("tensorflow_metadata/proto/v0/x.proto")),
            "runtime 5.29.6",
            'pip install "jaxflow-motion[data]" "tensorflow-metadata<1.18"',
        ),
        (
            VersionError(INCOMPATIBLE.format("grain/proto/execution_summary.proto")),
            "runtime 5.29.6",
            "pip install --upgrade protobuf",
        ),
    ],
    ids=["missing", "without a word", "metadata", "another's messages"],
)
def test_a_library_that_cannot_be_imported_says_why_and_what_to_install(
    error, reason, line
):
    told = _checks.cannot_import("A Library", "data", error)
    assert isinstance(told, ImportError)
    text = str(told)
    assert text.startswith("this needs A Library (") and "\n" not in text
    assert text.endswith(f"{reason}): run `{line}`")


def test_the_nearest_names_are_few():
    names = ["raft_large", "raft_small", "pwcnet", "tvl1"]
    advice = _checks.nearest("RAFT", names, "`list`")
    assert advice == (
        "did you mean 'raft_large', 'raft_small'? `list` lists what there is"
    )
    assert _checks.nearest("PWCNet", names, "`list`").startswith(
        "did you mean 'pwcnet'?"
    )
    assert _checks.nearest("?!", names, "`list`") == "`list` lists what there is"


def test_whole_takes_integers_of_any_type():
    assert _checks.whole("radius", np.uint8(3), least=0) == 3
    with pytest.raises(ValueError, match=r"`radius` must be a whole number; got 2\.0"):
        _checks.whole("radius", 2.0, least=0)
    with pytest.raises(ValueError, match="`radius` must be at least 0; got -1"):
        _checks.whole("radius", -1, least=0)


def test_a_seed_is_a_whole_number_that_a_generator_takes():
    _checks.seed("seed", np.int64(-3))
    _checks.seed("seed", 2**64 - 1, signed=False)
    for value in ("a", 1.5, True, None, 2**63):
        message = f"`seed` must be an integer of 64 bits; got {value!r}"
        with pytest.raises(ValueError, match=message):
            _checks.seed("seed", value)
    for value in (-1, 2**64):
        with pytest.raises(ValueError, match=f"64 bits, 0 or more; got {value}"):
            _checks.seed("seed", value, signed=False)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, "None"), (3, "3"), (range, "<class 'range'>"), ("x" * 99, "")],
)
def test_a_name_is_a_text_and_what_is_none_is_shown_in_few_words(value, shown):
    if isinstance(value, str):
        _checks.text("name", value, "`list`")
        value, shown = [value * 9], "one of type list"
    with pytest.raises(ValueError) as error:
        _checks.text("name", value, "`list`")
    assert str(error.value) == (
        f"`name` must be a name in quotes; got {shown}; `list` lists what there is"
    )
