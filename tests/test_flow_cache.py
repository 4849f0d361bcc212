"""Tests for jaxflow.flow_cache."""

import json

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import estimate, flow_cache, io, spec, viz
from jaxflow.data import flow_pictures
from jaxflow.flow_cache import cached_flow


class Still(nnx.Module):
    """A flow network of one weight, which is its flow."""

    frames = spec.Frames(multiple=1)

    def __init__(self, u):
        self.u = nnx.Param(jnp.full((1,), u, jnp.float32))

    def __call__(self, image1, image2):
        flow = jnp.zeros((*image1.shape[:-1], 2)) + self.u[...][None, None, None]
        return spec.Flow(flow, (flow,))


@pytest.fixture
def clip(rng):
    return rng.integers(0, 256, (4, 16, 20, 3), np.uint8)


def read(folder):
    pictures = flow_pictures.list_flow_pictures(folder)
    return [
        flow_pictures.read_flow_picture(pictures, i) for i in range(len(pictures.x))
    ]


def test_holds_the_flow_of_whole_frames_in_8_bits(clip, tmp_path):
    place = cached_flow("lucas_kanade", clip, tmp_path / "cache")
    flows = estimate.estimate_clip("lucas_kanade", clip)
    # In a batch of another shape a half may round the other way.
    codes = viz.quantize_flow(flows).astype(int)
    assert np.abs(np.stack(read(place)) - codes).max() <= 1
    record = json.loads((place / "flow.json").read_text())
    assert record["estimator"] == {"method": "lucas_kanade"} and record["count"] == 3


def test_estimates_once_and_again_for_other_weights_or_frames(
    clip, tmp_path, monkeypatch
):
    runs = []
    whole = estimate.stream_flow

    def counted(*args, **keywords):
        runs.append(1)
        return whole(*args, **keywords)

    monkeypatch.setattr(flow_cache.estimate, "stream_flow", counted)
    first = cached_flow(Still(1.0), clip, tmp_path)
    assert cached_flow(Still(1.0), clip.copy(), tmp_path) == first and len(runs) == 1
    assert cached_flow(Still(2.0), clip, tmp_path) != first and len(runs) == 2
    other = clip.copy()
    other[3, 2, 1, 0] ^= 1
    assert cached_flow(Still(1.0), other, tmp_path) != first and len(runs) == 3
    assert cached_flow(Still(1.0), clip, tmp_path, precision="high") != first
    assert read(first)[0].max() == viz.quantize_flow([[[1.0, 1.0]]]).max()
    # A picture that went is computed again.
    (first / "flow_x_00002.png").unlink()
    assert cached_flow(Still(1.0), clip, tmp_path) == first and len(runs) == 5
    assert len(read(first)) == 3
    assert not [path for path in tmp_path.iterdir() if path.name[0] == "."]


def test_a_file_is_known_by_its_content(clip, tmp_path):
    frames = tmp_path / "frames"
    frames.mkdir()
    for number, frame in enumerate(clip):
        io.write_image(frames / f"{number}.png", frame)
    cache = tmp_path / "cache"
    first = cached_flow(Still(1.0), frames, cache)
    frames.rename(tmp_path / "moved")
    assert cached_flow(Still(1.0), tmp_path / "moved", cache) == first
    io.write_image(tmp_path / "moved" / "2.png", 255 - clip[2])
    assert cached_flow(Still(1.0), tmp_path / "moved", cache) != first


def test_what_fails_leaves_nothing_behind(clip, tmp_path):
    with pytest.raises(ValueError, match="at least two frames"):
        cached_flow(Still(1.0), clip[:1], tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="must be a folder"):
        cached_flow(Still(1.0), clip, tmp_path / "file")
    with pytest.raises(ValueError, match="does not have"):
        cached_flow("tvl1", clip, tmp_path / "cache", options={"speed": 1})
