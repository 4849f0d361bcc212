"""How well scores of classes fit the true classes.

Scores are (N, classes): a row an example, the higher the likelier. NumPy, in float64.
A score that is NaN is wrong everywhere: it is worse than any other where it is the
score of a true class, and better than any other where it is not.
"""

import numpy as np
import numpy.typing as npt

from jaxflow import _checks


def top_k_accuracy(
    scores: npt.ArrayLike, labels: npt.ArrayLike, *, k: int = 1
) -> float:
    """Returns how often the true class is among the `k` best.

    Of equal scores the first class is the best, as by argmax.

    Args:
        scores: (N, classes).
        labels: The true classes, (N,) integers from 0.
        k: How many classes may be named.

    Returns:
        A share, from 0 to 1.

    Raises:
        ValueError: If a shape is wrong, a label is no class, there is no example, or
            `k` is not positive.

    Examples:
        >>> from jaxflow import class_metrics
        >>> scores = [[0.7, 0.2, 0.1], [0.5, 0.4, 0.1]]
        >>> class_metrics.top_k_accuracy(scores, [0, 1])
        0.5
        >>> class_metrics.top_k_accuracy(scores, [0, 1], k=2)
        1.0
    """
    _checks.positive("k", k)
    return float(np.mean(_ranks(*_single(scores, labels)) < k))


def mean_class_accuracy(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Averages over the classes how often each is the best where it is the true one.

    Classes without an example do not count. Every class has the same weight, whatever
    its number of examples, so that frequent classes do not hide the others.

    Args:
        scores: (N, classes).
        labels: The true classes, (N,) integers from 0.

    Returns:
        A share, from 0 to 1.

    Raises:
        ValueError: If a shape is wrong, a label is no class, or there is no example.

    Examples:
        Three of class 0 are right, and the one of class 1 is not.

        >>> from jaxflow import class_metrics
        >>> class_metrics.mean_class_accuracy([[0.9, 0.1]] * 4, [0, 0, 0, 1])
        0.5
    """
    scores, labels = _single(scores, labels)
    right = _ranks(scores, labels) < 1
    shown = np.bincount(labels, minlength=scores.shape[1])
    found = np.bincount(labels, weights=right, minlength=scores.shape[1])
    return float(np.mean(found[shown > 0] / shown[shown > 0]))


def average_precision(scores: npt.ArrayLike, labels: npt.ArrayLike) -> np.ndarray:
    """Returns the area under the curve of precision and recall of every class.

        AP = sum_n (R_n - R_(n-1)) P_n

    over the different scores, from the highest down: R_n is the share of the true
    examples that score as high or higher, and P_n the share of true ones among those.
    Nothing is interpolated.

    Args:
        scores: (N, classes).
        labels: Which classes an example shows, (N, classes) bool or 0 and 1; it may be
            several, or none.

    Returns:
        (classes,) float64, from 0 to 1; NaN for a class that no example shows.

    Raises:
        ValueError: If a shape is wrong, a label is neither 0 nor 1, or there is no
            example.

    Examples:
        >>> from jaxflow import class_metrics
        >>> scores = [[0.9, 0.1], [0.8, 0.7], [0.3, 0.9]]
        >>> class_metrics.average_precision(scores, [[1, 0], [0, 1], [1, 0]]).round(3)
        array([0.833, 0.5  ])
    """
    scores, shown = _several(scores, labels)
    scores = np.where(np.isnan(scores), np.where(shown, -np.inf, np.inf), scores)
    return np.array(
        [_area(*pair) for pair in zip(scores.T, shown.T, strict=True)], np.float64
    )


def mean_average_precision(scores: npt.ArrayLike, labels: npt.ArrayLike) -> float:
    """Averages `average_precision` over the classes that any example shows: mAP.

    The measure of Charades (Sigurdsson et al., "Hollywood in Homes", 2016) and of
    other sets whose videos show several actions.

    Args:
        scores: (N, classes).
        labels: Which classes an example shows, (N, classes) bool or 0 and 1.

    Returns:
        A number from 0 to 1; NaN if no example shows any class.

    Raises:
        ValueError: As `average_precision`.

    Examples:
        >>> from jaxflow import class_metrics
        >>> scores = [[0.9, 0.1], [0.8, 0.7], [0.3, 0.9]]
        >>> shown = [[1, 0], [0, 1], [1, 0]]
        >>> round(class_metrics.mean_average_precision(scores, shown), 3)
        0.667
    """
    areas = average_precision(scores, labels)
    areas = areas[~np.isnan(areas)]
    return float(areas.mean()) if areas.size else float("nan")


def _area(scores: np.ndarray, shown: np.ndarray) -> float:
    """Returns the average precision of one class."""
    if not shown.any():
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    scores, shown = scores[order], shown[order]
    # Equal scores are reached together: only the last of each counts. Two infinities
    # are equal, and their difference would be NaN.
    last = np.append(scores[1:] != scores[:-1], True)
    found = np.cumsum(shown)[last]
    reached = np.flatnonzero(last) + 1
    recall = found / found[-1]
    return float(np.sum(np.diff(recall, prepend=0) * found / reached))


def _ranks(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns how many classes come before the true one."""
    own = np.take_along_axis(scores, labels[:, None], 1)
    before = np.arange(scores.shape[1]) < labels[:, None]
    # Not (a <= b) holds for NaN on either side; the true class itself never counts.
    above = ~(scores <= own) | ((scores == own) & before)
    above &= np.arange(scores.shape[1]) != labels[:, None]
    return np.where(np.isnan(own[:, 0]), scores.shape[1], above.sum(1))


def _single(scores, labels) -> tuple[np.ndarray, np.ndarray]:
    """Checks scores, and one label an example."""
    scores, labels = _scores(scores), np.asarray(labels)
    if labels.shape != scores.shape[:1] or labels.dtype.kind not in "iu":
        raise ValueError(
            f"`labels` must be {scores.shape[:1]} whole numbers; got {labels.shape} of "
            f"{labels.dtype}"
        )
    if labels.min() < 0 or labels.max() >= scores.shape[1]:
        raise ValueError(
            f"`labels` must be classes from 0 to {scores.shape[1] - 1}; got "
            f"{labels.min()} to {labels.max()}"
        )
    return scores, labels.astype(np.int64)


def _several(scores, labels) -> tuple[np.ndarray, np.ndarray]:
    """Checks scores, and labels that say of every class whether it is shown."""
    scores, labels = _scores(scores), np.asarray(labels)
    if labels.shape != scores.shape:
        raise ValueError(
            f"`labels` must be {scores.shape}, as the scores; got {labels.shape}"
        )
    if not np.isin(labels, (0, 1)).all():
        raise ValueError("`labels` must be 0 or 1 for every class")
    return scores, labels.astype(bool)


def _scores(scores) -> np.ndarray:
    """Checks scores."""
    scores = np.asarray(scores, np.float64)
    if scores.ndim != 2 or not scores.size:
        raise ValueError(
            f"`scores` must be (N, classes), and not empty; got {scores.shape}"
        )
    return scores
