import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from flax import nnx

from jaxflow.layers import representation_flow
from tests import golden


def last(array, dtype=np.float32):
    return jnp.asarray(np.moveaxis(array, 1, -1).astype(dtype))


@pytest.fixture
def layer_golden(test_data):
    return np.load(test_data / "golden" / "video" / "repflow_layer_787564a.npz")


def foreign(layer, name):
    """Returns a parameter in torch's layout."""
    leaf, axes = layer.torch_names[name]
    value = np.asarray(getattr(layer, leaf)[...])
    return value if axes is None else value.transpose(np.argsort(axes))


@pytest.mark.parametrize("iterations", [1, 5, 20])
def test_equals_the_hmdb_release_with_all_its_gradients(layer_golden, iterations):
    layer = representation_flow.FlowLayer(
        4, iterations=iterations, learn=(1,) * 5, variant="hmdb_release"
    )
    graph, state = nnx.split(layer)
    w1, w2 = last(layer_golden["w1"]), last(layer_golden["w2"])

    @jax.jit
    def run(state, x, y):
        def loss(state, x, y):
            u, v = nnx.merge(graph, state, copy=True)(x, y)
            return jnp.sum(u * w1) + jnp.sum(v * w2), (u, v)

        return jax.grad(loss, (0, 1, 2), has_aux=True)(state, x, y)

    slopes, (u, v) = run(state, last(layer_golden["x"]), last(layer_golden["y"]))

    # The official code in float32 is this far (4e-7) from itself in float64.
    results = {"u": u, "v": v, "gx": slopes[1], "gy": slopes[2]}
    for name, actual in results.items():
        expected = np.moveaxis(layer_golden[f"{name}_n{iterations}"], 1, -1)
        np.testing.assert_allclose(actual, expected, atol=3e-6, err_msg=name)
    slope = nnx.merge(graph, slopes[0])
    for name in layer.torch_names:
        expected = layer_golden[f"gparam_{name}_n{iterations}"]
        scale = 1 + np.abs(expected).max()
        np.testing.assert_allclose(
            foreign(slope, name) / scale, expected / scale, atol=1e-4, err_msg=name
        )


def test_normalises_as_the_authors_code(layer_golden):
    actual = representation_flow.stretch(last(layer_golden["x"]), sign=-1)
    expected = np.moveaxis(layer_golden["norm_img_x"], 1, -1)
    # Float32, of values up to 255.
    np.testing.assert_allclose(actual, expected, atol=1e-4)


def test_equals_the_kinetics_release_in_float64(test_data, double):
    folder = test_data / "golden" / "video"
    golden = np.load(folder / "repflow_layer_head.npz")
    info = json.loads((folder / "repflow_layer_head.json").read_text())
    spec = importlib.util.spec_from_file_location(
        "procedural", folder / "procedural.py"
    )
    procedural = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(procedural)
    weights = procedural.procedural_state_dict(info["entries"], info["gain"])
    names = {"bottleneck": "reduce", "unbottleneck": "expand"}

    def check(iterations):
        layer = representation_flow.RepresentationFlow(
            12,
            iterations=iterations,
            learn=(1,) * 5,
            variant="kinetics_release",
            rngs=nnx.Rngs(0),
        )
        for theirs, ours in names.items():
            kernel = weights[f"rep_flow.{theirs}.weight"].transpose(2, 3, 4, 1, 0)
            parameter = getattr(layer, ours).kernel
            parameter[...] = jnp.asarray(kernel, parameter.dtype)
        for theirs, (ours, _) in layer.norm.torch_names.items():
            parameter = getattr(layer.norm, ours)
            value = weights[f"rep_flow.bn.{theirs}"]
            parameter[...] = jnp.asarray(value, parameter.dtype)
        layer.eval()
        graph, state = nnx.split(layer)
        state = jax.tree.map(lambda v: v.astype(jnp.float64), state)

        @jax.jit
        def run(state, x):
            def loss(state, x):
                layer = nnx.merge(graph, state, copy=True)
                out = layer(x)
                return jnp.sum(out * last(golden["w"], np.float64)), (
                    out,
                    layer.flows(x)[..., np.array([0, 1, 31, 32, 33, 63])],
                )

            return jax.grad(loss, (0, 1), has_aux=True)(state, x)

        (slope, gx), (out, flow) = run(state, last(golden["x"], np.float64))
        for name, actual in {"out": out, "flow": flow, "gx": gx}.items():
            expected = np.moveaxis(golden[f"{name}_n{iterations}"], 1, -1)
            close(actual, expected, iterations, name)
        slope = nnx.merge(graph, slope)
        for name in slope.flow.torch_names:
            actual = foreign(slope.flow, name)
            actual = actual[:4, :4] if actual.ndim == 4 else actual
            close(actual, golden[f"gparam_{name}_n{iterations}"], iterations, name)

    def close(actual, expected, iterations, name):
        # The layer is chaotic: it amplifies rounding a thousandfold in five steps.
        tolerance = (1e-6 if iterations == 1 else 1e-4) * max(1, np.abs(expected).max())
        np.testing.assert_allclose(actual, expected, atol=tolerance, err_msg=name)

    for iterations in (1, 5):
        check(iterations)


def test_follows_the_published_pattern():
    i, j = np.mgrid[:12, :16].astype(np.float64)

    def pattern(i, j):
        return 127.5 * (1 + np.sin(0.7 * j + 0.4 * i) * np.cos(0.3 * i - 0.2 * j))

    x = jnp.asarray(pattern(i, j), jnp.float32)[..., None]
    y = jnp.asarray(pattern(i - 0.25, j - 0.6), jnp.float32)[..., None]
    u, v = representation_flow.tvl1(x, y, iterations=10)
    # Values of an independent NumPy run of the algorithm.
    np.testing.assert_allclose(
        [u[5, 7, 0], v[5, 7, 0], u.mean(), v.mean()],
        [0.641615, 0.208551, 0.709176, 0.333474],
        atol=2e-5,
    )


@pytest.mark.parametrize("learn", [(0, 0, 0, 0, 0), (0, 1, 1, 1, 1), (1, 0, 0, 1, 0)])
def test_only_what_shall_learn_is_a_parameter(learn):
    layer = representation_flow.FlowLayer(3, learn=learn)
    groups = (
        ("image_x", "image_y"),
        ("flow_x", "flow_y", "div_x", "div_y"),
        ("theta",),
        ("lam",),
        ("tau",),
    )
    learned = set(nnx.to_pure_dict(nnx.state(layer, nnx.Param)))
    expected = {
        n for flag, names in zip(learn, groups, strict=True) for n in names if flag
    }
    assert learned == expected
    constants = nnx.to_pure_dict(nnx.state(layer, representation_flow.Constant))
    assert learned | set(constants) == {name for names in groups for name in names}


@pytest.mark.parametrize("variant", representation_flow.VARIANTS)
def test_every_variant_runs_on_one_pixel_and_in_bfloat16(variant):
    layer = representation_flow.RepresentationFlow(
        3, inner_features=2, iterations=2, variant=variant, rngs=nnx.Rngs(0)
    )
    out = golden.run(layer, jnp.ones((1, 3, 1, 1, 3), jnp.bfloat16))
    assert out.shape == (1, 2, 1, 1, 3)
    assert out.dtype == jnp.bfloat16
    assert np.isfinite(np.asarray(out, np.float32)).all()


def test_paper_variant_is_algorithm_1_with_sobel_filters(rng):
    sobel = np.array([[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]])

    def slopes(image):
        filters = (sobel, sobel.T)
        return [scipy.ndimage.correlate(image, f, mode="nearest") for f in filters]

    def divergence(px, py):
        # Backward differences; p is 0 before the first and in the last.
        px, py = px.copy(), py.copy()
        px[:, -1] = py[-1] = 0
        return np.diff(px, axis=1, prepend=0) + np.diff(py, axis=0, prepend=0)

    x, y = 50 * rng.normal(size=(2, 6, 7))
    theta, lam, tau = 0.3, 0.15, 0.25
    g = slopes(y)
    square = g[0] ** 2 + g[1] ** 2 + 1e-12
    flow, dual = np.zeros((2, 6, 7)), np.zeros((2, 2, 6, 7))
    for _ in range(3):
        rho = y - x + g[0] * flow[0] + g[1] * flow[1]
        step = np.clip(-rho / square, -lam * theta, lam * theta)
        flow = np.stack(
            [flow[i] + step * g[i] + theta * divergence(*dual[i]) for i in (0, 1)]
        )
        for i in (0, 1):
            slope = np.stack(slopes(flow[i]))
            scale = 1 + tau / theta * np.sqrt((slope**2).sum(0) + 1e-12)
            dual[i] = (dual[i] + tau / theta * slope) / scale

    layer = representation_flow.FlowLayer(1, iterations=3, variant="paper")
    u, v = layer(*(jnp.asarray(z, jnp.float32)[..., None] for z in (x, y)))
    np.testing.assert_allclose(u[..., 0], flow[0], atol=1e-5)
    np.testing.assert_allclose(v[..., 0], flow[1], atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("convolve", [True, False])
@pytest.mark.parametrize("variant", ["paper", "hmdb_release"])
def test_flow_of_flow_takes_two_frames_off(convolve, variant):
    layer = representation_flow.FlowConvFlow(
        4, inner_features=2, iterations=2, variant=variant, convolve=convolve,
        rngs=nnx.Rngs(0),
    )  # fmt: skip
    x = jnp.arange(3 * 5 * 5 * 4.0).reshape(1, 3, 5, 5, 4) % 7
    out = golden.run(layer, x)
    assert out.shape == (1, 1, 5, 5, 4)
    if variant == "hmdb_release":
        # New, it is the mean of three frames.
        np.testing.assert_allclose(out[:, 0], x.mean(1), rtol=1e-5)


def test_rejects_single_frames_and_unknown_choices():
    layer = representation_flow.RepresentationFlow(3, rngs=nnx.Rngs(0))
    with pytest.raises(ValueError, match="at least 2 frames"):
        layer(jnp.ones((1, 1, 4, 4, 3)))
    with pytest.raises(ValueError, match="variant"):
        representation_flow.FlowLayer(3, variant="best")


def test_labels_tell_the_flow_parameters_from_the_rest():
    layer = representation_flow.RepresentationFlow(3, rngs=nnx.Rngs(0))
    for tree in (
        nnx.state(layer, nnx.Param),
        nnx.to_pure_dict(nnx.state(layer, nnx.Param)),
    ):
        labels = jax.tree.leaves(representation_flow.parameter_labels(tree))
        # expand, then div_x, div_y, flow_x, flow_y, lam, tau, theta, then reduce.
        assert labels == ["other"] + 7 * ["flow"] + ["other"]
