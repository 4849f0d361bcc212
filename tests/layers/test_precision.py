"""Tests for jaxflow.layers.precision."""

import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

import jaxflow
from jaxflow import classify, evaluate, models, spec, train
from jaxflow.layers import conv, precision
from jaxflow.models.flow import spynet

FRAMES = np.zeros((2, 8, 8, 3), np.uint8)
CLIP = np.zeros((1, 2, 8, 8, 3), np.float32)
ENTRIES = {
    jaxflow.estimate_flow: lambda flow, video: (flow, *FRAMES),
    evaluate.evaluate_flow: lambda flow, video: (
        flow,
        [(*FRAMES, np.zeros((8, 8, 2), np.float32), np.ones((8, 8), bool))],
    ),
    jaxflow.classify_video: lambda flow, video: (video, FRAMES),
    classify.score_views: lambda flow, video: (video, CLIP),
    classify.view_features: lambda flow, video: (video, CLIP, "layer"),
    classify.extract_features: lambda flow, video: (video, CLIP, "layer"),
    classify.grad_cam: lambda flow, video: (video, CLIP),
}


class Flow(nnx.Module):
    """A flow network that notes the precision of the products it is traced with."""

    def __init__(self, seen):
        self.frames = spec.Frames(multiple=1)
        self.note = lambda: seen.append(jax.config.jax_default_matmul_precision)

    def __call__(self, image1, image2):
        self.note()
        return image1[..., :2]


class Video(nnx.Module):
    """A recognition network that does the same."""

    def __init__(self, seen):
        self.cam_layer = "layer"
        self.layer = conv.Conv3d(3, 4, 1, rngs=nnx.Rngs(0))
        self.note = lambda: seen.append(jax.config.jax_default_matmul_precision)

    def __call__(self, clip, *, key=None):
        self.note()
        return jnp.mean(self.layer(clip), axis=(1, 2, 3))


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.__name__)
def test_every_entry_takes_the_precision_of_products_and_is_exact_by_default(entry):
    assert inspect.signature(entry).parameters["precision"].default == "highest"
    seen = []
    arguments = ENTRIES[entry](Flow(seen), Video(seen))
    options = (
        {"num_frames": 2, "stride": 1, "crop_size": 8}
        if entry is jaxflow.classify_video
        else {}
    )
    with jax.default_matmul_precision("bfloat16"):
        for word in ("highest", "default"):
            seen.clear()
            entry(*arguments, precision=word, **options)
            assert set(seen) == {word}
    with pytest.raises(ValueError, match="`precision` must be one of"):
        entry(*arguments, precision="hi", **options)


@pytest.mark.parametrize("name", ["c3d", "slowfast_4x16_r50"])
def test_a_model_keeps_its_parameters_and_computes_in_its_dtype(name):
    model = models.describe(name, dtype=jnp.bfloat16)
    assert model.dtype == jnp.bfloat16
    assert models.describe(name).dtype == jnp.float32
    dtypes = {leaf.dtype for leaf in jax.tree.leaves(nnx.state(model))}
    assert dtypes == {jnp.dtype("float32")}
    precision.set_dtype(model, "float16")
    assert model.dtype == jnp.float16


@pytest.mark.parametrize("dtype", ["float64", "int8", "quarter", None, 3, jnp.int32])
def test_another_type_is_one_clear_error(dtype):
    with pytest.raises(ValueError, match="`dtype` must be one of 'float32'"):
        models.describe("c3d", dtype=dtype)


def test_training_in_bfloat16_keeps_weights_and_gradients_in_float32():
    model = spynet.Model(spynet.TINY, rngs=nnx.Rngs(0))
    precision.set_dtype(model, jnp.bfloat16)
    optimiser = optax.adam(1e-3)

    def loss(model, batch):
        return jnp.mean(jnp.square(model(batch, batch[:, ::-1]).flow))

    mesh = train.data_mesh(jax.devices()[:1])
    step = train.make_step(model, loss, optimiser, mesh=mesh)
    before = train.init(model, optimiser)
    batch = np.random.default_rng(0).random((2, 32, 64, 3), np.float32)
    text = str(jax.make_jaxpr(step.run)(before, batch))
    assert re.search(r":bf16\[[\d,]*\] = convolution_in_second", text)
    found, metrics = step.run(train.init(model, optimiser), batch)
    assert np.isfinite(metrics["grad_norm"]) and metrics["grad_norm"] > 0
    for old, new in zip(
        *(jax.tree.leaves(state.params) for state in (before, found)), strict=True
    ):
        assert old.dtype == new.dtype == jnp.float32
    kinds = {leaf.dtype for leaf in jax.tree.leaves(found.opt_state)}
    assert kinds == {jnp.dtype("float32"), jnp.dtype("int32")}
