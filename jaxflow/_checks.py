"""Validators that name the argument and its value, and how to get what is missing."""

from collections.abc import Collection

# The name on PyPI; `jaxflow` there is another project.
_DISTRIBUTION = "jaxflow-motion"


def install_line(extra: str) -> str:
    """Returns the command that installs an extra of this package."""
    return f'pip install "{_DISTRIBUTION}[{extra}]"'


def one_of(name: str, value: object, allowed: Collection) -> None:
    """Raises ValueError unless `value` is in `allowed`."""
    if value not in allowed:
        choices = ", ".join(repr(choice) for choice in allowed)
        raise ValueError(f"`{name}` must be one of {choices}; got {value!r}")


def positive(name: str, value: int | float) -> None:
    """Raises ValueError unless `value` is greater than 0."""
    if not value > 0:
        raise ValueError(f"`{name}` must be positive; got {value!r}")
