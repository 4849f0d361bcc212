"""Tests for jaxflow.inference."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxflow
from jaxflow import inference, spec
from jaxflow.models.flow import spynet


@pytest.fixture(scope="module")
def tiny():
    return spynet.Model(spynet.TINY, rngs=nnx.Rngs(jax.random.key(0)))


@pytest.fixture
def pairs(rng):
    return rng.uniform(size=(2, 3, 33, 45, 3)).astype(np.float32)


def test_the_core_gives_what_the_shell_gives(tiny, pairs):
    core = jax.jit(lambda a, b: inference.flow(tiny, a, b))
    expected = jaxflow.estimate_flow(tiny, *pairs)
    np.testing.assert_allclose(core(*pairs), expected, atol=1e-5)
    eight = np.rint(255 * pairs).astype(np.uint8)
    expected = jaxflow.estimate_flow(tiny, *eight)
    np.testing.assert_allclose(core(*eight), expected, atol=1e-5)


def test_vmap_over_pairs_is_the_loop(tiny, pairs):
    mapped = jax.jit(jax.vmap(lambda a, b: inference.flow(tiny, a, b)))(*pairs)
    single = jax.jit(lambda a, b: inference.flow(tiny, a, b))
    looped = np.stack([single(a, b) for a, b in zip(*pairs, strict=True)])
    # Another batch size is another order of sums.
    np.testing.assert_allclose(mapped, looped, atol=1e-5)


def directional(function, at, along, step):
    ahead, behind = function(at + step * along), function(at - step * along)
    return (ahead - behind) / (2 * step)


def test_gradients_inside_another_program_match_finite_differences(pairs):
    # A network that is smooth: kinks would be seen by differences of finite steps.
    class Smooth(nnx.Module):
        def __init__(self):
            self.frames = spec.Frames(multiple=16)
            self.kernel = nnx.Param(jnp.full((1, 1, 3, 2), 0.3))
            self.deterministic = True

        def __call__(self, image1, image2):
            assert self.deterministic
            return jnp.tanh((image1 * image2) @ self.kernel[0, 0])

    model = Smooth()
    model.train()
    graphdef, weights = nnx.split(model)
    one, two = pairs[:, 0]
    along = np.random.default_rng(1).normal(size=one.shape).astype(np.float32)

    @jax.jit
    def program(weights, frame):
        # Flow as a part of another program: it is smoothed, and compared.
        network = nnx.merge(graphdef, weights, copy=True)
        flow = inference.flow(network, frame, jnp.asarray(two))
        return jnp.mean(jnp.sin(3 * flow) * jnp.cos(frame[..., :1]))

    slopes = jax.jit(jax.grad(program, argnums=(0, 1)))(weights, jnp.asarray(one))
    found = float(jnp.vdot(slopes[1], along))
    expected = directional(lambda x: float(program(weights, x)), one, along, 1e-2)
    # Steps of 1e-2 in float32: a few digits.
    assert found == pytest.approx(expected, rel=2e-2)
    moved = jax.tree.map(jnp.ones_like, weights)
    found = sum(float(x.sum()) for x in jax.tree.leaves(slopes[0]))

    def at(step):
        tree = jax.tree.map(lambda w, d: w + step * d, weights, moved)
        return float(program(tree, jnp.asarray(one)))

    assert found == pytest.approx((at(1e-2) - at(-1e-2)) / 2e-2, rel=2e-2)


class Answer(nnx.Module):
    """A "network" that returns what it is told to, in training mode or not."""

    def __init__(self, answer, **frames):
        self.frames = spec.Frames(**frames)
        self.answer = answer
        self.deterministic = True

    def __call__(self, image1, image2):
        assert self.deterministic
        return self.answer(image1, image2)


def test_the_model_stays_in_its_mode(pairs):
    model = Answer(lambda one, two: one[..., :2], multiple=1)
    model.train()
    inference.flow(model, *pairs)
    assert not model.deterministic


def test_a_network_returns_a_record_or_bare_flow(pairs):
    def bare(one, two):
        return one[:, ::2, ::2, :2]

    def record(one, two):
        full = jnp.zeros((*one.shape[:-1], 2))
        return spec.Flow(full, (bare(one, two),))

    expected = jaxflow.estimate_flow(Answer(bare, multiple=2), *pairs)
    found = jaxflow.estimate_flow(
        Answer(record, multiple=2, flow_source="finest"), *pairs
    )
    np.testing.assert_array_equal(found, expected)
    assert not jaxflow.estimate_flow(Answer(record, multiple=2), *pairs).any()


@pytest.mark.parametrize(
    ("answer", "got"),
    [
        (lambda one, two: [one[..., :2]], "got list"),
        (lambda one, two: (one[..., :2], two), "got tuple"),
        (lambda one, two: None, "got NoneType"),
        (lambda one, two: one, r"got \(., 33, 45, 3\)"),
        (lambda one, two: one[:0, ..., :2], r"got \(0, 33, 45, 2\)"),
        (lambda one, two: one[0, ..., :2], r"got \(33, 45, 2\)"),
        (lambda one, two: spec.Flow(two, (two,)), r"got \(., 33, 45, 3\)"),
        (lambda one, two: {"flow": one[..., :2]}, "got dict"),
    ],
)
def test_what_is_no_flow_is_one_clear_error(pairs, answer, got):
    model = Answer(answer, multiple=1)
    for estimate in (inference.flow, jaxflow.estimate_flow):
        with pytest.raises(ValueError, match=f"`model` must return .*{got}") as error:
            estimate(model, *pairs)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("one", "two", "says"),
    [
        (np.zeros((8, 9, 3), np.int32), np.zeros((8, 9, 3), np.int32), "got int32"),
        (np.zeros((8, 9, 3), bool), np.zeros((8, 9, 3), bool), "got bool"),
        (
            np.zeros((2, 3, 8, 9, 3), np.float32),
            np.zeros((6, 8, 9, 3), np.float32),
            "must have one shape",
        ),
    ],
)
def test_frames_that_are_no_pictures_or_not_alike_are_refused(one, two, says):
    with pytest.raises(ValueError, match=says):
        inference.flow("block_matching", one, two)


@pytest.mark.parametrize(
    ("name", "options", "says"),
    [
        ("horn_schunck", {"alpha": np.ones(3, np.float32)}, "`alpha` must be one"),
        ("tvl1", {"weight": np.ones(3, np.float32)}, "`weight` must be a number"),
        (
            "lucas_kanade",
            {"initial_flow": np.zeros((8, 24, 2), np.float32)},
            r"`initial_flow` must .*16",
        ),
    ],
)
def test_an_array_that_fits_no_pair_is_refused(name, options, says):
    frames = np.zeros((3, 16, 24, 3), np.float32)
    with pytest.raises(ValueError, match=says):
        jaxflow.estimate_flow(name, frames, frames, options=options)


def test_a_classical_method_is_differentiated_by_its_name(rng):
    y, x = np.mgrid[:24, :32]
    scene = np.stack([0.5 + 0.3 * np.sin(x / 3.0 + y / 5.0)] * 3, -1)
    frames = scene.astype(np.float32), np.roll(scene, 1, 1).astype(np.float32)

    @jax.jit
    def mean(gain):
        options = {"levels": 1, "warps": 1, "iterations": 5}
        return jnp.mean(
            inference.flow("horn_schunck", gain * frames[0], frames[1], **options)
        )

    slope = float(jax.jit(jax.grad(mean))(jnp.float32(0.9)))
    expected = (float(mean(0.905)) - float(mean(0.895))) / 0.01
    assert slope == pytest.approx(expected, rel=2e-2)


def test_what_a_call_takes_is_told():
    assert inference.takes("tvl1", "initial_flow")
    assert not inference.takes("block_matching", "initial_flow")
    with pytest.raises(ValueError, match="got 'nothing'"):
        inference.takes("nothing", "initial_flow")
