"""Validators that name the argument and its value, and how to get what is missing."""

import difflib
import numbers
import operator
from collections.abc import Collection

# The name on PyPI; `jaxflow` there is another project.
_DISTRIBUTION = "jaxflow-motion"

# Later ones are generated for protobuf 6.31, and do not say so to pip.
_METADATA_FOR_PROTOBUF_5 = '"tensorflow-metadata<1.18"'

# Of a value in a message; a network's has thousands.
_LONGEST = 80


def install_line(extra: str) -> str:
    """Returns the command that installs an extra of this package."""
    return f'pip install "{_DISTRIBUTION}[{extra}]"'


def cannot_import(library: str, extra: str, error: Exception) -> ImportError:
    """Returns an error of one line about a library that an import failed for.

    Args:
        library: Its name, as its authors write it.
        extra: Of this package, that it belongs to.
        error: Why the import failed. That need not be an ImportError: where code that
            was generated for a newer protobuf meets an older one, protobuf raises an
            error of its own.
    """
    reason = " ".join(str(error).split()) or type(error).__name__
    line = install_line(extra)
    if type(error).__name__ == "VersionError":
        # Its second sentence, and the address in the third, help nobody here.
        reason = reason.split(". ")[0]
        if "tensorflow_metadata" in reason:
            line += f" {_METADATA_FOR_PROTOBUF_5}"
        else:
            line = "pip install --upgrade protobuf"
    return ImportError(f"this needs {library} ({reason}): run `{line}`")


def one_of(name: str, value: object, allowed: Collection) -> None:
    """Raises ValueError unless `value` is in `allowed`."""
    if value not in allowed:
        choices = ", ".join(repr(choice) for choice in allowed)
        raise ValueError(f"`{name}` must be one of {choices}; got {value!r}")


def nearest(name: str, names: Collection[str], where: str) -> str:
    """Returns what to say after a name that does not exist, in few words.

    Args:
        name: What was asked for.
        names: The names there are.
        where: What lists them.
    """
    by_lower = {each.lower(): each for each in sorted(names, reverse=True)}
    wanted = str(name).lower()
    close = difflib.get_close_matches(wanted, by_lower, n=3, cutoff=0.5)
    begun = [each for each in sorted(by_lower) if wanted and each.startswith(wanted)]
    found = [by_lower[each] for each in dict.fromkeys([*begun, *close])][:4]
    meant = f"did you mean {', '.join(map(repr, found))}? " if found else ""
    return f"{meant}{where} lists what there is"


def text(name: str, value: object, where: str) -> None:
    """Raises ValueError unless a value is a text, as the name of something is.

    Args:
        name: Of the argument.
        value: What was given; long or of several lines, its type is named instead.
        where: What lists the names there are.
    """
    if not isinstance(value, str):
        shown = repr(value)
        if len(shown) > _LONGEST or "\n" in shown:
            shown = f"one of type {type(value).__name__}"
        raise ValueError(
            f"`{name}` must be a name in quotes; got {shown}; {where} lists what there "
            "is"
        )


def positive(name: str, value: int | float) -> None:
    """Raises ValueError unless `value` is one number that is greater than 0."""
    if getattr(value, "ndim", 0):
        raise ValueError(
            f"`{name}` must be one number; got an array of {tuple(value.shape)}"  # type: ignore[union-attr]
        )
    if not value > 0:
        raise ValueError(f"`{name}` must be positive; got {value!r}")


def counts(**values: object) -> None:
    """Raises ValueError unless each value is a whole number of 1 or more."""
    for name, value in values.items():
        whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
        if not whole or value < 1:  # type: ignore[operator]
            raise ValueError(f"`{name}` must be a whole number from 1; got {value!r}")


def whole(name: str, value: object, *, least: int) -> int:
    """Returns a whole number of any type as an int; raises ValueError if it is none.

    Args:
        name: Of the argument.
        value: Its value; a NumPy integer is a whole number, 2.0 is none.
        least: The smallest that it may be.
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        raise ValueError(f"`{name}` must be a whole number; got {value!r}") from None
    if number < least:
        raise ValueError(f"`{name}` must be at least {least}; got {number}")
    return number


def seed(name: str, value: object, *, signed: bool = True) -> None:
    """Raises ValueError if a seed is not an integer of 64 bits.

    Args:
        name: Of the argument.
        value: What was given.
        signed: Whether it may be negative, as it may for JAX, and not for NumPy.
    """
    least, beyond = (-(2**63), 2**63) if signed else (0, 2**64)
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not whole or not least <= value < beyond:  # type: ignore[operator]
        what = "an integer of 64 bits" + ("" if signed else ", 0 or more")
        raise ValueError(f"`{name}` must be {what}; got {value!r}")
