"""On a mesh, under `jax.shard_map`, results and derivatives are those of one device."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from jax.sharding import PartitionSpec

from jaxflow import ops
from jaxflow.classical import (
    applications,
    brox,
    features,
    horn_schunck,
    lucas_kanade,
    registration,
    trajectories,
    tvl1,
)
from jaxflow.data import moving_shapes, rand_augment, synthetic, textures
from jaxflow.diffusion import masks, parameterisations, samplers, schedules
from jaxflow.layers import feature_flow
from jaxflow.models.flow import raft, tvnet
from jaxflow.models.generation import rvd

EXAMPLES = PartitionSpec("data")
SLOW = {"register", "track", "camera_path", "mosaic", "flow_pair", "expose"}
SLOW |= {"training_masks"}


def cases(names):
    return [
        pytest.param(name, marks=pytest.mark.slow) if name in SLOW else name
        for name in names
    ]


def total(function):
    def loss(*arrays):
        return sum((x**2).sum() for x in jax.tree.leaves(function(*arrays)))

    return loss


def on_shards(function, split=None):
    """Splits the examples of all arrays, or of those that `split` says, over 4."""
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]), ("data",))
    specs = EXAMPLES
    if split is not None:
        specs = tuple(EXAMPLES if own else PartitionSpec() for own in split)
    return jax.jit(
        jax.shard_map(function, mesh=mesh, in_specs=specs, out_specs=EXAMPLES)
    )


def assert_equal(actual, wanted, tolerance):
    for one, two in zip(jax.tree.leaves(actual), jax.tree.leaves(wanted), strict=True):
        np.testing.assert_allclose(one, two, rtol=tolerance, atol=tolerance)


def pool(maps, boxes):
    corners = jnp.concatenate([boxes[:, :2], boxes[:, 2:] + 4], axis=1)
    return ops.roi_align(maps, corners, jnp.arange(len(boxes)), size=(2, 2))


FRAME, FLOW, CLIP = (16, 16, 1), (16, 16, 2), (3, 16, 16, 1)
CASES = {
    "warp": (ops.backward_warp, ((8, 9, 3), (8, 9, 2))),
    "warp of many channels": (ops.backward_warp, ((8, 9, 32), (8, 9, 2))),
    "splat": (ops.forward_splat, ((8, 9, 3), (8, 9, 2))),
    "correlation": (
        functools.partial(ops.local_correlation, radius=4),
        ((16, 24, 32), (16, 24, 32)),
    ),
    "propagation": (ops.forward_interpolate, ((4, 5, 2),)),
    "pooling in boxes": (pool, ((8, 8, 3), (4,))),
}


@pytest.mark.parametrize("name", CASES)
def test_gradients_on_shards_are_those_of_one_device(name, rng):
    function, shapes = CASES[name]
    arrays = [rng.standard_normal((4, *shape), np.float32) for shape in shapes]
    gradient = jax.grad(total(function), argnums=tuple(range(len(arrays))))
    actual, wanted = on_shards(gradient)(*arrays), jax.jit(gradient)(*arrays)
    assert_equal(actual, wanted, 1e-4)


COARSE = {"levels": 1, "warps": 1}
STEPS = {"levels": 1, "iterations": 1}
# Function -> the shapes of its arrays, without the axis of examples.
ESTIMATES = {
    "tvl1": (
        functools.partial(
            tvl1.tvl1,
            outer_iterations=1,
            inner_iterations=2,
            median=1,
            interpolation="bilinear",
            **COARSE,
        ),
        (FRAME, FRAME),
    ),
    "horn_schunck": (
        functools.partial(horn_schunck.horn_schunck, iterations=1, **COARSE),
        (FRAME, FRAME),
    ),
    "brox": (
        functools.partial(
            brox.brox, fixed_point_iterations=1, sor_iterations=1, **COARSE
        ),
        (FRAME, FRAME),
    ),
    "lucas_kanade": (
        functools.partial(lucas_kanade.lucas_kanade, window=5, **STEPS),
        (FRAME, FRAME),
    ),
    "register": (
        lambda *frames: registration.register(*frames, **STEPS).matrix,
        (FRAME, FRAME),
    ),
    "detect_corners": (
        jax.vmap(functools.partial(features.detect_corners, count=3)),
        (FRAME,),
    ),
    "track": (
        jax.vmap(
            lambda clip, points: features.track(clip, 15 * points, window=3, **STEPS)
        ),
        (CLIP, (2, 2)),
    ),
    "camera_path": (
        jax.vmap(functools.partial(applications.camera_path, **STEPS)),
        (CLIP,),
    ),
    "mosaic": (
        jax.vmap(functools.partial(applications.mosaic, size=(16, 16), **STEPS)),
        (CLIP,),
    ),
    "dense_trajectories": (
        jax.vmap(lambda *arrays: trajectories.dense_trajectories(*arrays).points),
        (CLIP, (2, 16, 16, 2)),
    ),
    "bounce": (
        jax.vmap(
            lambda start: moving_shapes.bounce(
                9 * start, jnp.ones((3, 2)), jnp.zeros((1, 2)), jnp.full((1, 2), 9.0),
                None, frames=3,
            )
        ),
        ((3, 2),),
    ),
}  # fmt: skip


def positive(rng, shapes):
    return [rng.random((4, *shape), np.float32) for shape in shapes]


@pytest.mark.parametrize("name", cases(ESTIMATES))
def test_estimates_on_shards_are_those_of_one_device(name, rng):
    function, shapes = ESTIMATES[name]
    arrays = positive(rng, shapes)
    assert_equal(on_shards(function)(*arrays), jax.jit(function)(*arrays), 1e-3)


STARTS = {
    "relaxation": (
        functools.partial(horn_schunck.relax, alpha=1.0, iterations=2),
        (*[(5, 6, 1)] * 3, (5, 6, 2)),
    ),
    "brox": (
        functools.partial(
            brox.variational_refinement, fixed_point_iterations=1, sor_iterations=1
        ),
        (FRAME, FRAME, FLOW),
    ),
    "features": (
        lambda two, one: feature_flow.tvl1(one, two, iterations=2),
        ((6, 7, 2), (6, 7, 2)),
    ),
}


@pytest.mark.parametrize("name", STARTS)
def test_one_start_serves_all_shards(name, rng):
    function, shapes = STARTS[name]
    *arrays, start = positive(rng, shapes)
    start = np.broadcast_to(start[:1], start.shape)
    shared = on_shards(function, (*[True] * len(arrays), False))
    wanted = jax.jit(function)(*arrays, start)
    assert_equal(shared(*arrays, start[:1]), wanted, 1e-3)


def sampled(key):
    steps = schedules.steps([0.99, 0.5, 0.01])
    denoise = parameterisations.denoiser(
        lambda noisy, time: noisy / 2, "noise", threshold=None
    )
    return samplers.sample(key, denoise, jnp.zeros((1, 2, 3, 3, 1)), steps)


def exposed(key):
    scene = synthetic.draw_scene(key, size=(16, 16))
    return synthetic.expose(scene, (16, 16), exposure=0.5, samples=2)


DRAWS = {
    "sample": sampled,
    "training_masks": lambda key: masks.training_masks(key, 2, 8, 4),
    "flow_pair": lambda key: synthetic.flow_pair(key, size=(16, 16))["image1"],
    "expose": exposed,
    "dead_leaves": functools.partial(textures.dead_leaves, size=16, leaves=5),
    "rand_augment": lambda key: rand_augment.rand_augment(
        key, jnp.full((1, 4, 5, 3), 0.25), layers=2, magnitude=5
    ),
}


@pytest.mark.parametrize("name", cases(DRAWS))
def test_draws_on_shards_are_those_of_one_device(name):
    if name == "sample" and jax.__version_info__ < (0, 8):
        pytest.skip("JAX 0.7 itself cannot split an rbg key under shard_map")
    # One key after the other: not all generators draw the same under `jax.vmap`.
    function = functools.partial(jax.lax.map, DRAWS[name])
    keys = jax.random.split(jax.random.key(0), 4)
    assert_equal(on_shards(function)(keys), jax.jit(function)(keys), 1e-4)


def tvnet_flow():
    model = tvnet.Model(tvnet.TINY, rngs=nnx.Rngs(0))
    return lambda *frames: model(*frames).flow, [(16, 16, 3)] * 2


def raft_flow():
    model = raft.Model(raft.TINY, rngs=nnx.Rngs(0))
    model.eval()
    return lambda *frames: model(*frames, iterations=1).flow, [(128, 128, 3)] * 2


def rvd_means():
    model = rvd.Model(rvd.TINY, rngs=nnx.Rngs(0))
    model.eval()
    return lambda clip: model.watch(clip)[0], [(2, 16, 16, 3)]


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(tvnet_flow, marks=pytest.mark.slow),
        pytest.param(raft_flow, marks=pytest.mark.slow),
        rvd_means,
    ],
)
def test_networks_on_shards_are_those_of_one_device(build, rng):
    function, shapes = build()
    arrays = positive(rng, shapes)
    assert_equal(on_shards(function)(*arrays), jax.jit(function)(*arrays), 1e-3)
