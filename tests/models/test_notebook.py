"""A model that is defined in a notebook has no file, and needs none."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import jaxflow
from jaxflow import checkpoint, classify, estimate, train

CELL = """
import jax
import jax.numpy as jnp
from flax import nnx

from jaxflow import spec
from jaxflow.layers import conv, dropout


class Flow(nnx.Module):
    def __init__(self, *, rngs):
        self.frames = spec.Frames(multiple=4)
        self.conv = conv.Conv(6, 2, rngs=rngs)

    def __call__(self, image1, image2):
        flow = self.conv(jnp.concatenate([image1, image2], axis=-1))
        return spec.Flow(flow, (flow,))


class Video(nnx.Module):
    def __init__(self, *, rngs):
        self.dropout = dropout.Dropout(0.5)
        self.dense = conv.Linear(3, 4, rngs=rngs)

    def __call__(self, clip, *, key=None):
        return self.dense(self.dropout(clip.mean((1, 2, 3)), key=key))
"""


@pytest.fixture(scope="module")
def cell():
    """Runs the cell where no module of that name can be imported."""
    from flax import nnx

    names = {"__name__": "a_notebook"}
    exec(compile(CELL, "<cell>", "exec"), names)
    flow, video = names["Flow"](rngs=nnx.Rngs(0)), names["Video"](rngs=nnx.Rngs(0))
    return flow, video


def test_it_estimates(cell, rng):
    one, two = rng.uniform(size=(2, 9, 11, 3)).astype(np.float32)
    flow = estimate.estimate_flow(cell[0], one, two)
    assert flow.shape == (9, 11, 2)
    assert np.isfinite(flow).all()


def test_it_classifies(cell, rng):
    clip = rng.integers(0, 256, (5, 9, 11, 3), np.uint8)
    options = {"num_frames": 2, "stride": 1, "crop_size": 8}
    scores = classify.classify_video(cell[1], clip, **options)
    assert scores.shape == (4,)
    np.testing.assert_allclose(scores.sum(), 1, rtol=1e-5)


@pytest.mark.parametrize("which", [0, 1], ids=["flow", "video"])
def test_it_trains_and_is_saved_and_restored(cell, which, tmp_path):
    model = cell[which]
    shapes = [(2, 8, 8, 3)] * 2 if which == 0 else [(2, 2, 8, 8, 3)]

    def draw(key):
        return [jax.random.uniform(key, shape) for shape in shapes]

    def loss(model, batch):
        found = model(*batch)
        return jnp.mean(getattr(found, "flow", found) ** 2)

    optimiser = optax.sgd(0.1)
    mesh = train.data_mesh(jax.devices()[:1])
    step = train.make_step(model, loss, optimiser, draw=draw, mesh=mesh)
    before = checkpoint.weights_of(model)
    state = train.init(model, optimiser, seed=0)
    train.finish(model, train.fit(step, state, steps=2, progress=False))
    trained = checkpoint.weights_of(model)
    checkpoint.save(tmp_path / "net", model)
    jaxflow.save_weights(model, tmp_path / "net.safetensors")
    for path in (tmp_path / "net", tmp_path / "net.safetensors"):
        checkpoint.fill(model, before)
        if path.suffix:
            jaxflow.load_weights(model, path)
        else:
            checkpoint.restore(path, model)
        restored = checkpoint.weights_of(model)
        jax.tree.map(np.testing.assert_array_equal, restored, trained)
    moved = jax.tree.map(lambda a, b: bool(np.any(a != b)), before, trained)
    assert all(jax.tree.leaves(moved))
