"""Small trees in the layouts of the authors, of random frames and flow."""

import zlib

import numpy as np

from jaxflow import io

SIZE = (6, 8)


def make(root, *names):
    """Writes files of random content: flow, masks or frames by their names."""
    for name in names:
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".flo", ".pfm") or "flow_occ/" in name:
            # Sixty-fourths, which KITTI's files hold exactly.
            flow = rng.integers(-640, 640, (*SIZE, 2)) / np.float32(64)
            io.write_flow(path, flow.astype(np.float32))
        elif any(part in name for part in ("occlusions", "invalid", "_occ")):
            io.write_image(path, rng.integers(0, 2, SIZE, np.uint8) * np.uint8(255))
        else:
            io.write_image(path, rng.integers(0, 256, (*SIZE, 3), np.uint8))
    return root


def check(source, expected, root):
    """Compares what a builder gives with the samples that its pairs hold."""
    elements = {element["id"]: element for element in source}
    assert len(elements) == len(source) == len(expected.pairs)
    for pair, sample in zip(expected.pairs, expected, strict=True):
        element = elements[pair.flow.relative_to(root).as_posix().encode()]
        names = ("image1", "image2", "flow", "valid")
        for name, value in zip(names, sample, strict=True):
            np.testing.assert_array_equal(element[name], value)
            assert element[name].dtype == value.dtype
    return elements
