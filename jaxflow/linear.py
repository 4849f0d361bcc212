"""Linear classifiers of a network's features, as C3D's authors test theirs.

Tran et al., "Learning Spatiotemporal Features with 3D Convolutional Networks" (ICCV
2015), Sec. 4: features of clips are averaged over a video and scaled to norm 1, and a
linear SVM tells the classes; pairs of videos (ASLAN) are told by the distances and
similarities of their features. What is computed is NumPy's, in float64.
"""

import dataclasses

import numpy as np
import numpy.typing as npt

from jaxflow import _checks

_MOST_STEPS = 100
# Ratio of the gradient to the first one's at which a fit is done.
_PRECISION = 1e-8


@dataclasses.dataclass(frozen=True)
class LinearSVM:
    """One linear classifier a class: scores = x weights + bias.

    Attributes:
        weights: (features, classes).
        bias: (classes,).
    """

    weights: np.ndarray
    bias: np.ndarray

    def scores(self, features: npt.ArrayLike) -> np.ndarray:
        """Returns how far rows (N, features) lie on each class's side: (N, classes)."""
        return np.asarray(features, np.float64) @ self.weights + self.bias[None, :]

    def predict(self, features: npt.ArrayLike) -> np.ndarray:
        """Returns the best class of each row, (N,)."""
        return np.argmax(self.scores(features), axis=1)


def video_feature(clips: npt.ArrayLike) -> np.ndarray:
    """Averages features of a video's clips and scales them to norm 1.

    Args:
        clips: (clips, ...), as `jaxflow.explain.view_features` gives them.

    Returns:
        (features,) float64; zeros stay zeros.

    Raises:
        ValueError: If there are no clips.

    Examples:
        >>> jaxflow.linear.video_feature([[3.0, 0.0], [3.0, 8.0]])
        array([0.6, 0.8])
    """
    clips = np.asarray(clips, np.float64)
    if clips.ndim < 2 or not len(clips):
        raise ValueError(
            f"`clips` must be (clips, ...), at least one; got {clips.shape}"
        )
    mean = clips.mean(axis=0).ravel()
    norm = np.linalg.norm(mean)
    return mean / norm if norm else mean


def fit_svm(
    features: npt.ArrayLike, labels: npt.ArrayLike, *, penalty: float = 1.0
) -> LinearSVM:
    """Fits a linear SVM, one class against the others, with squared hinge losses.

        min over w, b of  (|w|^2 + b^2) / 2 + penalty sum max(0, 1 - y (x w + b))^2

    which is what LIBLINEAR's default solves. Newton's method on the rows that are
    inside the margin, with halved steps where a whole one goes up.

    Args:
        features: (N, features), one row an example.
        labels: (N,) integers from 0; each class up to the largest has an example.
        penalty: Weight of the losses, the C of other programs.

    Raises:
        ValueError: If a shape is wrong, a value is not finite, or there are fewer than
            two classes.

    Examples:
        >>> svm = jaxflow.linear.fit_svm([[0.0], [1.0], [4.0], [5.0]], [0, 0, 1, 1])
        >>> svm.predict([[-1.0], [2.0], [3.0], [9.0]]).tolist()
        [0, 0, 1, 1]
    """
    features, labels = np.asarray(features, np.float64), np.asarray(labels)
    if features.ndim != 2 or labels.shape != features.shape[:1]:
        raise ValueError(
            "`features` must be (N, features) and `labels` (N,); got "
            f"{features.shape} and {labels.shape}"
        )
    if not np.isfinite(features).all():
        raise ValueError("`features` must be finite")
    _checks.positive("penalty", penalty)
    if not np.issubdtype(labels.dtype, np.integer):
        raise ValueError(f"`labels` must be integers; got {labels.dtype}")
    classes = int(labels.max(initial=-1)) + 1
    if classes < 2 or set(labels.tolist()) != set(range(classes)):
        raise ValueError(
            "`labels` must be at least two classes, 0, 1, ..., each with an example"
        )
    rows = np.concatenate([features, np.ones((len(features), 1))], axis=1)
    found = [
        _fit_one(rows, np.where(labels == n, 1.0, -1.0), penalty)
        for n in range(classes)
    ]
    table = np.stack(found, axis=1)
    return LinearSVM(table[:-1], table[-1])


def pair_similarities(first: npt.ArrayLike, second: npt.ArrayLike) -> np.ndarray:
    """Compares features of two videos in eight ways, for a classifier of pairs.

    Dot product; cosine; dot product over the sum of squares less it (Tanimoto); root of
    the sum of root products (Bhattacharyya); sum of the smaller over that of the larger
    values; and three distances: of city blocks, Euclid, and Hellinger. Those with roots
    and the shares count magnitudes.

    Args:
        first: (..., features).
        second: The same.

    Returns:
        (..., 8) float64; the order of the two videos does not matter. What would divide
        by 0 is 0.

    Raises:
        ValueError: If the shapes differ.

    Examples:
        >>> found = jaxflow.linear.pair_similarities([0.6, 0.8], [0.8, 0.6])
        >>> found[1].round(2).item(), found[6].round(2).item()
        (0.96, 0.28)
    """
    a, b = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if a.shape != b.shape or not a.ndim:
        raise ValueError(
            f"`first` and `second` must be alike; got {a.shape} and {b.shape}"
        )

    def share(part, whole):
        return np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)

    dot = np.asarray((a * b).sum(-1))
    squares = np.asarray((a**2).sum(-1)), np.asarray((b**2).sum(-1))
    large, small = np.maximum(abs(a), abs(b)), np.minimum(abs(a), abs(b))
    roots = np.sqrt(abs(a)), np.sqrt(abs(b))
    return np.stack(
        [
            dot,
            share(dot, np.sqrt(squares[0] * squares[1])),
            share(dot, squares[0] + squares[1] - dot),
            np.sqrt((roots[0] * roots[1]).sum(-1)),
            share(np.asarray(small.sum(-1)), np.asarray(large.sum(-1))),
            abs(a - b).sum(-1),
            np.sqrt(((a - b) ** 2).sum(-1)),
            np.sqrt(((roots[0] - roots[1]) ** 2).sum(-1)),
        ],
        axis=-1,
    )


def _fit_one(rows: np.ndarray, signs: np.ndarray, penalty: float) -> np.ndarray:
    """Returns the weights of one class against the others, the bias last."""
    weights = np.zeros(rows.shape[1])

    def losses(weights):
        return np.maximum(0, 1 - signs * (rows @ weights))

    def cost(weights):
        return 0.5 * weights @ weights + penalty * np.sum(losses(weights) ** 2)

    def slope(weights):
        return weights - 2 * penalty * rows.T @ (signs * losses(weights))

    bar = _PRECISION * np.linalg.norm(slope(weights))
    for _ in range(_MOST_STEPS):
        down = slope(weights)
        if np.linalg.norm(down) <= bar:
            break
        step = _newton_step(rows[losses(weights) > 0], down, penalty)
        before, size = cost(weights), 1.0
        while size > 1e-10 and cost(weights - size * step) > before:
            size /= 2
        weights = weights - size * step
    return weights


def _newton_step(inside: np.ndarray, down: np.ndarray, penalty: float) -> np.ndarray:
    """Solves (I + 2 penalty X'X) step = down, in the smaller of X's two sides."""
    scaled = np.sqrt(2 * penalty) * inside
    if scaled.shape[0] < scaled.shape[1]:
        inner = np.eye(len(scaled)) + scaled @ scaled.T
        return down - scaled.T @ np.linalg.solve(inner, scaled @ down)
    return np.linalg.solve(np.eye(scaled.shape[1]) + scaled.T @ scaled, down)
