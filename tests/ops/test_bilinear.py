"""Tests for jaxflow.ops.bilinear."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxflow.ops import bilinear


def product(a, b, like, settings):
    """Multiplies (B, N, I) with (I, O) and a number."""
    del like
    return settings * jnp.einsum("bni,io->bno", a, b)


def product_on_cpu(a, b, like, settings):
    """The same, in an order of its own."""
    return product(a[:, ::-1], b, like, settings)[:, ::-1]


def forms(out):
    return bilinear.Forms(out, bilinear.in_first(out), bilinear.in_second(out))


PRODUCT = bilinear.bilinear(
    "product",
    plain=forms(product),
    on_cpu=forms(product_on_cpu),
    examples=(True, False, True),
)


def ours(a, b):
    return PRODUCT.out(a, b, 2.0)


def plain(a, b):
    return product(a, b, None, 2.0)


@pytest.fixture
def arrays(rng):
    shapes = ((2, 3, 4), (4, 5))
    return [jnp.asarray(rng.normal(size=s), jnp.float32) for s in shapes]


def assert_same(transformation, *arguments, atol=1e-5):
    """Compares a transformation of our map with that of the plain one."""
    found, expected = (
        jax.tree.leaves(jax.jit(transformation(f))(*arguments)) for f in (ours, plain)
    )
    for actual, wanted in zip(found, expected, strict=True):
        assert actual.shape == wanted.shape
        assert actual.dtype == wanted.dtype
        scale = float(jnp.abs(wanted).max())
        np.testing.assert_allclose(actual, wanted, rtol=0, atol=atol * scale)


def loss(function):
    return lambda a, b: jnp.sum(jnp.sin(function(a, b)))


def gradient(function):
    return jax.grad(loss(function), argnums=(0, 1))


def hessian(function):
    return jax.jacfwd(gradient(function), argnums=(0, 1))


TRANSFORMATIONS = {
    "itself": lambda f: f,
    "jvp": lambda f: lambda a, b: jax.jvp(f, (a, b), (jnp.sin(a), jnp.cos(b))),
    "linearize": lambda f: (
        lambda a, b: jax.linearize(f, a, b)[1](jnp.cos(a), jnp.sin(b))
    ),
    "gradient": gradient,
    "jacobian, forward": lambda f: jax.jacfwd(f, argnums=(0, 1)),
    "jacobian, reverse": lambda f: jax.jacrev(f, argnums=(0, 1)),
    "hessian": hessian,
    "hessian, reverse twice": lambda f: jax.jacrev(gradient(f), argnums=(0, 1)),
    "third derivative": lambda f: jax.jacrev(hessian(f), argnums=1),
    "checkpoint": lambda f: gradient(jax.checkpoint(f)),
}


@pytest.mark.parametrize("name", TRANSFORMATIONS)
def test_derivatives_are_those_of_the_plain_form(arrays, name):
    assert_same(TRANSFORMATIONS[name], *arrays)


AXES = [(0, None), (None, 0), (0, 0), (2, 1), (None, 2)]


@pytest.mark.parametrize("axes", AXES, ids=str)
def test_maps_over_any_axis_and_its_derivatives(rng, axes):
    a, b = (jnp.asarray(rng.normal(size=s), jnp.float32) for s in ((2, 3, 4), (4, 5)))
    mapped = [
        x if axis is None else jnp.stack([x, 2 * x, -x], axis)
        for x, axis in zip((a, b), axes, strict=True)
    ]
    assert_same(lambda f: jax.vmap(f, axes), *mapped)
    assert_same(lambda f: jax.vmap(gradient(f), axes), *mapped)
    assert_same(lambda f: gradient(jax.vmap(f, axes)), *mapped)
    twice = [
        x if axis is None else jnp.stack([x, x + 1])
        for x, axis in zip(mapped, axes, strict=True)
    ]
    outer = [None if axis is None else 0 for axis in axes]
    assert_same(lambda f: jax.vmap(jax.vmap(gradient(f), axes), outer), *twice)


def test_scans(arrays):
    a, b = arrays
    square = b @ b.T

    def scanned(function):
        def run(a, b):
            def step(a, _):
                return jnp.sin(function(a, b)), None

            return jax.lax.scan(step, a, length=3)[0]

        return run

    assert_same(lambda f: gradient(scanned(f)), a, square)
    assert_same(lambda f: jax.jacfwd(scanned(f)), a, square)


def test_works_outside_of_a_program(arrays):
    expected = plain(*arrays)
    np.testing.assert_allclose(ours(*arrays), expected, rtol=1e-5, atol=1e-5)
    with jax.disable_jit():
        np.testing.assert_allclose(ours(*arrays), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("platform", ["cpu", "cuda", "tpu"])
def test_a_platform_gets_its_form(arrays, platform):
    text = export.export(jax.jit(ours), platforms=[platform])(*arrays).mlir_module()
    assert ("stablehlo.reverse" in text) == (platform == "cpu")


def test_an_exported_program_runs(arrays):
    program = export.export(jax.jit(gradient(ours)))(*arrays)
    for actual, wanted in zip(
        program.call(*arrays), gradient(plain)(*arrays), strict=True
    ):
        np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-5)


def mesh():
    return Mesh(np.array(jax.devices()[:2]), ("data",))


def test_is_split_over_devices(arrays):
    split = NamedSharding(mesh(), PartitionSpec("data"))
    whole = NamedSharding(mesh(), PartitionSpec())
    compiled = jax.jit(gradient(ours), in_shardings=(split, whole))
    a, b = compiled(*arrays)
    for actual, wanted in zip((a, b), gradient(plain)(*arrays), strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-5)
    assert a.sharding.is_equivalent_to(split, a.ndim)


@pytest.mark.parametrize("check", [True, False])
def test_is_mapped_over_shards(arrays, check):
    examples, shared = PartitionSpec("data"), PartitionSpec()

    def total(function):
        def local(a, b):
            return jax.lax.psum(loss(function)(a, b), "data")

        return jax.shard_map(
            local,
            mesh=mesh(),
            in_specs=(examples, shared),
            out_specs=shared,
            check_vma=check,
        )

    found, expected = (
        jax.jit(jax.grad(total(f), argnums=(0, 1)))(*arrays) for f in (ours, plain)
    )
    whole = gradient(plain)(*arrays)
    for actual, wanted, single in zip(found, expected, whole, strict=True):
        np.testing.assert_allclose(actual, wanted, rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(actual, single, rtol=1e-5, atol=1e-5)
