import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow.layers import norm
from jaxflow.models.generation import unet3d
from tests import golden

IMAGES = dataclasses.replace(unet3d.TINY, attend_frames=False)


def build(config, seed=0):
    model = unet3d.Model(config, rngs=nnx.Rngs(seed))
    model.eval()
    return model


def inputs(rng, config, batch=2, frames=4, size=(8, 12)):
    noisy = rng.normal(size=(batch, frames, *size, config.channels))
    return jnp.float32(noisy), jnp.arange(batch) * 400 + 3


@pytest.mark.parametrize(
    "name", [pytest.param("lucid_unet3d", marks=pytest.mark.slow), "lucid_unet3d_cond"]
)
def test_equals_the_official_code(case, count, name):
    model, arrays, info = case(name)
    # The rotary frequencies are among the official parameters, though not trained.
    assert count(model) + model.frequencies.size == info["parameter_count"]
    noisy, time = golden.nhwc(arrays["x"]), jnp.asarray(arrays["time"])
    embedding = jnp.asarray(arrays["cond"]) if "cond" in arrays else None

    def predict(present, dropped=(False, False)):
        condition = unet3d.Condition(
            embedding,
            None if embedding is None else jnp.asarray(dropped),
            jnp.asarray(present),
        )
        out = golden.run(model, jnp.asarray(noisy), time, condition=condition)
        return np.moveaxis(np.asarray(out), -1, 1)

    expected = {
        "out": predict([False, False]),
        "out_focus_present_first": predict([True, False]),
        "out_focus_present_all": predict([True, True]),
    }
    if embedding is not None:
        null = predict([False, False], [True, True])
        expected["out_null_cond"] = null
        scaled = null + 3 * (expected["out"] - null)
        # Three times the difference has five times the error of each.
        np.testing.assert_allclose(
            scaled,
            arrays["out_cond_scale_3"],
            rtol=0,
            atol=5 * info["tolerance"]["out"],
        )
    for key, actual in expected.items():
        np.testing.assert_allclose(
            actual, arrays[key], rtol=0, atol=info["tolerance"]["out"], err_msg=key
        )


@pytest.mark.slow
def test_no_condition_is_a_dropped_condition(rng):
    model = build(unet3d.TINY)
    noisy, time = inputs(rng, unet3d.TINY)
    embedding = jnp.float32(rng.normal(size=(2, 6)))
    condition = unet3d.Condition(embedding, jnp.array([True, False]))
    dropped = golden.run(model, noisy, time, condition=condition)
    free = golden.run(model, noisy, time, condition=None)
    np.testing.assert_allclose(dropped[0], free[0], atol=1e-5)
    assert np.abs(dropped[1] - free[1]).max() > 1e-3


@pytest.mark.slow
def test_a_fresh_video_network_is_its_image_network_on_every_frame(rng):
    image, video = build(IMAGES), build(unet3d.TINY, seed=1)
    # Pre-training on pictures: what the two share goes over.
    nnx.update(video, nnx.state(image))
    noisy, time = inputs(rng, IMAGES)
    as_video = golden.run(video, noisy, time)
    as_images = golden.run(image, noisy, time)
    np.testing.assert_array_equal(as_video, as_images)
    # And the image network sees one frame at a time.
    frames = jnp.moveaxis(noisy, 1, 0)[:, :, None]
    alone = jnp.stack([golden.run(image, frame, time)[:, 0] for frame in frames], 1)
    # XLA sums frames in another order.
    limit = 1e-5 * np.abs(as_images).max()
    np.testing.assert_allclose(alone, as_images, rtol=0, atol=limit)


def test_attention_over_time_tells_the_order_of_frames(rng):
    model = build(unet3d.TINY)
    for name in ("init_temporal", "mid_temporal"):
        kernel = getattr(model, name).to_out.kernel
        kernel[...] = jnp.float32(rng.normal(size=kernel.shape))
    noisy, time = inputs(rng, unet3d.TINY)
    forward = golden.run(model, noisy, time)
    backward = golden.run(model, noisy[:, ::-1], time)[:, ::-1]
    assert np.abs(forward - backward).max() > 1e-3


@pytest.mark.parametrize("size", [(2, 2), (8, 14)])
@pytest.mark.parametrize("frames", [1, 9])
def test_takes_any_number_of_frames_and_any_even_size(rng, frames, size):
    noisy, time = inputs(rng, unet3d.TINY, batch=1, frames=frames, size=size)
    model = build(unet3d.TINY)
    assert jax.eval_shape(model, noisy, time).shape == noisy.shape


def test_buckets_are_those_of_t5():
    # Distances from the far past to the far future, by hand from Raffel et al.
    row = unet3d.relative_buckets(81)[40]
    assert row[40] == 0
    np.testing.assert_array_equal(row[39:31:-1], [1, 2, 3, 4, 5, 6, 7, 8])
    np.testing.assert_array_equal(row[41:49], [17, 18, 19, 20, 21, 22, 23, 24])
    assert row[40 - 16] == 12 and row[40 - 31] == 15 and row[0] == 15
    assert row[80] == 31
    assert unet3d.relative_buckets(1).shape == (1, 1)


def test_rotation_makes_products_depend_on_distance_alone(rng):
    frequencies = jnp.asarray(unet3d.rotary_frequencies(8))
    np.testing.assert_allclose(frequencies, 10000.0 ** -(np.arange(4) / 4), rtol=1e-6)
    query, key = jnp.float32(rng.normal(size=(2, 1, 10)))
    same = jnp.broadcast_to(query, (6, 10)), jnp.broadcast_to(key, (6, 10))
    turned = [unet3d.rotate(x, frequencies) for x in same]
    scores = np.asarray(turned[0] @ turned[1].T)
    for distance in range(-5, 6):
        diagonal = np.diagonal(scores, distance)
        np.testing.assert_allclose(diagonal, diagonal[0], atol=1e-5)
    np.testing.assert_allclose(scores[0, 0], (query @ key.T)[0, 0], atol=1e-5)
    # Channels beyond the rotated ones stay.
    np.testing.assert_array_equal(turned[0][:, 8:], same[0][:, 8:])


@pytest.mark.parametrize(
    ("config", "condition", "message"),
    [
        (IMAGES, jnp.zeros((2, 5)), r"shape \(2, 6\); got \(2, 5\)"),
        (unet3d.TINY, jnp.zeros(6), r"shape \(2, 6\); got \(6,\)"),
        (
            dataclasses.replace(unet3d.TINY, cond_dim=None),
            jnp.zeros((2, 6)),
            "takes no `condition`",
        ),
        (unet3d.TINY, unet3d.Condition(dropped=jnp.zeros(2)), "needs `condition.emb"),
        (unet3d.TINY, unet3d.Condition(present=jnp.zeros(3)), r"must be \(2,\)"),
        (IMAGES, unet3d.Condition(present=jnp.zeros(2)), "attend_frames=False"),
    ],
)
def test_rejects_a_condition_that_does_not_fit(rng, config, condition, message):
    noisy, time = inputs(rng, config)
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(
            lambda *arrays: build(config)(*arrays, condition=condition), noisy, time
        )


def test_norms_of_a_black_pixel_have_finite_gradients():
    for layer in (unet3d.RMSNorm(4), norm.ChannelNorm(4)):
        slope = jax.grad(lambda x, layer=layer: layer(x).sum())(jnp.zeros((2, 4)))
        assert jnp.isfinite(slope).all()
