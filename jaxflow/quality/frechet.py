"""How far features of generated videos are from those of true ones: Fréchet distance.

Statistics are gathered batch by batch, in float64.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.float64]


class Statistics(NamedTuple):
    """Mean and spread of features, gathered batch by batch.

    Attributes:
        examples: Their number.
        mean: (D,).
        scatter: Sum of the products of deviations from the mean, (D, D).
    """

    examples: int
    mean: Numbers
    scatter: Numbers

    @property
    def covariance(self) -> Numbers:
        """Sample covariance, divided by examples - 1; NaN for fewer than 2 examples."""
        if self.examples < 2:
            return np.full_like(self.scatter, np.nan)
        return self.scatter / (self.examples - 1)


def gather(batches: Iterable[npt.ArrayLike]) -> Statistics:
    """Gathers statistics of features without keeping them.

    Args:
        batches: Arrays (N, D).

    Raises:
        ValueError: If there is no batch, or the numbers of features differ.

    Examples:
        >>> found = jaxflow.quality.gather([[[0.0, 1.0]], [[2.0, 1.0], [4.0, 1.0]]])
        >>> found.mean.tolist(), found.covariance.tolist()
        ([2.0, 1.0], [[4.0, 0.0], [0.0, 0.0]])
    """
    total: Statistics | None = None
    for batch in batches:
        features = np.asarray(batch, np.float64)
        if features.ndim != 2 or (
            total is not None and features.shape[1] != len(total.mean)
        ):
            raise ValueError(f"`batches` must all be (N, D); got {features.shape}")
        if not len(features):
            continue
        mean = features.mean(0)
        deviation = features - mean
        own = Statistics(len(features), mean, deviation.T @ deviation)
        total = own if total is None else merge(total, own)
    if total is None:
        raise ValueError("`batches` holds no features")
    return total


def merge(first: Statistics, second: Statistics) -> Statistics:
    """Returns the statistics of two sets of examples together.

    Examples:
        >>> one, two = (jaxflow.quality.gather([[[x]]]) for x in (0.0, 2.0))
        >>> jaxflow.quality.merge(one, two).covariance.tolist()
        [[2.0]]
    """
    examples = first.examples + second.examples
    gap = second.mean - first.mean
    share = second.examples / examples
    scatter = first.scatter + second.scatter
    scatter = scatter + np.outer(gap, gap) * (first.examples * share)
    return Statistics(examples, first.mean + share * gap, scatter)


def frechet_distance(
    mean1: npt.ArrayLike,
    covariance1: npt.ArrayLike,
    mean2: npt.ArrayLike,
    covariance2: npt.ArrayLike,
) -> float:
    """Returns the squared Fréchet distance of two Gaussians (Dowson and Landau, 1982).

        |m1 - m2|^2 + tr(S1 + S2 - 2 (S1^1/2 S2 S1^1/2)^1/2)

    The root is taken of a symmetric matrix, so it is real for singular covariances too.
    It is called after its features: only with those of the published I3D is it "FVD".

    Args:
        mean1: (D,).
        covariance1: (D, D), symmetric.
        mean2: (D,).
        covariance2: (D, D).

    Raises:
        ValueError: If the shapes do not fit, or a number is not finite.

    Examples:
        Two normal distributions of the same spread, 3 apart:

        >>> jaxflow.quality.frechet_distance([0.0], [[1.0]], [3.0], [[1.0]])
        9.0
    """
    m1, s1, m2, s2 = (
        np.asarray(x, np.float64) for x in (mean1, covariance1, mean2, covariance2)
    )
    if s1.shape != (*m1.shape, *m1.shape) or s2.shape != s1.shape:
        raise ValueError(
            "means must be (D,) and covariances (D, D); got "
            f"{m1.shape}, {s1.shape}, {m2.shape}, {s2.shape}"
        )
    if not all(np.isfinite(x).all() for x in (m1, s1, m2, s2)):
        raise ValueError(
            "means and covariances must be finite: gather at least 2 examples of each"
        )
    values, vectors = np.linalg.eigh(s1)
    root = (vectors * np.sqrt(np.maximum(values, 0))) @ vectors.T
    inner = np.linalg.eigvalsh(root @ s2 @ root)
    cross = np.sqrt(np.maximum(inner, 0)).sum()
    gap = m1 - m2
    return float(gap @ gap + np.trace(s1) + np.trace(s2) - 2 * cross)


def frechet_of(first: Statistics, second: Statistics) -> float:
    """Returns the squared Fréchet distance of two gathered sets of features.

    Examples:
        >>> real = jaxflow.quality.gather([[[0.0], [2.0]]])
        >>> made = jaxflow.quality.gather([[[3.0], [5.0]]])
        >>> jaxflow.quality.frechet_of(real, made)
        9.0
    """
    return frechet_distance(
        first.mean, first.covariance, second.mean, second.covariance
    )
