"""Tests for jaxflow.data.builders.base."""

import io as bytes_io

import numpy as np
import pytest
from PIL import Image

from jaxflow import io
from jaxflow.data.builders import base


def test_a_plain_png_keeps_its_bytes_and_others_their_pixels(tmp_path):
    rng = np.random.default_rng(0)
    colour, gray = rng.integers(0, 256, (5, 4, 3), np.uint8), np.eye(4, dtype=np.uint8)
    for name, image in (("a.png", colour), ("a.ppm", colour), ("gray.png", gray)):
        path = tmp_path / name
        io.write_image(path, image)
        read = io.read_image(path)
        data = base.as_png(path, read)
        assert (data == path.read_bytes()) == (name == "a.png")
        with Image.open(bytes_io.BytesIO(data)) as picture:
            np.testing.assert_array_equal(picture.convert("RGB"), read)
    with pytest.raises(ValueError, match="more than 8 bits"):
        base.as_png(path, np.zeros((2, 2, 3), np.uint16))
