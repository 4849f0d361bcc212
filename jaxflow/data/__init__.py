"""Data: on-device generators, augmentation, and readers of real data sets.

Submodules are loaded when they are first named, so that the readers do without JAX
and the generators without TFDS and Grain.
"""

import importlib

_SUBMODULES = (
    "augment",
    "augment_clips",
    "ava",
    "box_clips",
    "builders",
    "clips",
    "draws",
    "folders",
    "jpeg",
    "list_parts",
    "list_rows",
    "lists",
    "loaders",
    "mixtures",
    "motion_classes",
    "moving_shapes",
    "official_lists",
    "photometric",
    "rand_augment",
    "submissions",
    "synthetic",
    "weather",
)


def __getattr__(name: str):
    if name in _SUBMODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_SUBMODULES])
