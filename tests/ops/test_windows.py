"""Tests for jaxflow.ops.windows."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow.ops import windows


@pytest.mark.parametrize(
    ("padding", "mode"), [("zeros", "constant"), ("border", "edge")]
)
@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize("batch", [(), (2,), (2, 1)], ids=str)
def test_equals_numpy_sliding_windows(rng, batch, size, padding, mode):
    image = rng.normal(size=(*batch, 4, 6, 2)).astype(np.float32)
    r = size // 2
    widths = [(0, 0)] * len(batch) + [(r, r), (r, r), (0, 0)]
    views = np.lib.stride_tricks.sliding_window_view(
        np.pad(image, widths, mode=mode), (size, size), axis=(-3, -2)
    )
    expected = np.moveaxis(views, -3, -1).reshape(*batch, 4, 6, size * size, 2)
    actual = windows.extract_windows(jnp.asarray(image), size, padding=padding)
    np.testing.assert_array_equal(actual, expected)


def test_rejects_an_even_window_and_an_unknown_padding():
    with pytest.raises(ValueError, match="`size` must be odd and positive; got 2"):
        windows.extract_windows(jnp.ones((3, 3, 1)), 2)
    with pytest.raises(ValueError, match="`padding` must be one of"):
        windows.extract_windows(jnp.ones((3, 3, 1)), 3, padding="wrap")
