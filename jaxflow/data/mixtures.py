"""Data sets mixed by weights, as one source whose position is exact.

Nothing here needs JAX.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np


class Mixture(Sequence[Any]):
    """Elements of several sources, in given shares.

    An epoch is as long as the source that its share passes slowest needs to be seen
    once: sources with a greater share are seen several times, and none is cut. Where a
    share is no whole number of elements, it is off by one element at most. Sources take
    turns as evenly as their shares allow, and each goes through its elements in order.
    The element at a place follows from the place alone, so that a loader's position is
    that of the mixture.

    Args:
        sources: The data sets; their elements must have the same entries.
        weights: Share of each; they need not sum to 1.

    Raises:
        ValueError: If there are no sources, one is empty, there are not as many
            weights, or a weight is not a number above 0.
    """

    def __init__(self, sources: Sequence[Sequence], weights: Sequence[float]):
        self.sources = tuple(sources)
        shares = _shares(self.sources, weights)
        lengths = np.array([len(source) for source in self.sources])
        self.counts = _counts(shares, float((lengths / shares).max()), lengths)
        # The j-th element of a source of n comes at (j + 1 / 2) / n of the epoch.
        times = np.concatenate([(np.arange(n) + 0.5) / n for n in self.counts])
        owners = np.repeat(np.arange(len(self.counts)), self.counts)
        order = np.lexsort((owners, times))
        self._owner = owners[order].astype(np.int32)
        numbers = np.concatenate([np.arange(n) for n in self.counts])
        self._number = numbers[order]

    def __len__(self) -> int:
        """Returns the number of elements of an epoch."""
        return len(self._owner)

    def __getitem__(self, index: int) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Returns one element."""
        source = self.sources[self._owner[index]]
        return source[int(self._number[index]) % len(source)]


def _shares(sources, weights) -> np.ndarray:
    """Checks sources and weights, and returns shares of sum 1."""
    shares = np.asarray(weights, np.float64)
    if not sources or shares.shape != (len(sources),):
        raise ValueError(
            f"`weights` must be one a source, and {len(sources)} in number; got "
            f"{list(weights)}"
        )
    if not (np.isfinite(shares) & (shares > 0)).all():
        raise ValueError(f"`weights` must be numbers above 0; got {list(weights)}")
    for place, source in enumerate(sources):
        if not len(source):
            raise ValueError(f"`sources` must not be empty; number {place} is")
    return shares / shares.sum()


def _counts(shares: np.ndarray, length: float, lengths: np.ndarray) -> np.ndarray:
    """Returns how many elements of each source an epoch has."""
    # A share that is whole but for rounding is not rounded up.
    counts = np.rint(shares * length).astype(np.int64)
    return np.where(np.abs(counts - lengths) <= 1, lengths, np.maximum(counts, 1))
