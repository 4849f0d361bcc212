import importlib.util
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow.layers import non_local
from tests import golden as golden_files

GOLDEN_FORMS = {
    "softmax_p122": ("embedded_gaussian", (1, 2, 2)),
    "softmax_nopool": ("embedded_gaussian", (1, 1, 1)),
    "dot_p122": ("dot_product", (1, 2, 2)),
    "dot_p222": ("dot_product", (2, 2, 2)),
    "dot_nopool": ("dot_product", (1, 1, 1)),
}
PREFIX = "s3.pathway0_nonlocal1."


@pytest.fixture
def golden(test_data):
    folder = test_data / "golden" / "video"
    spec = importlib.util.spec_from_file_location(
        "procedural", folder / "procedural.py"
    )
    procedural = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(procedural)
    info = json.loads((folder / "nonlocal_block.json").read_text())
    weights = procedural.procedural_state_dict(info["entries"], info["gain"])
    return np.load(folder / "nonlocal_block.npz"), weights


def fill(block, weights):
    for name in ("theta", "phi", "g", "out"):
        layer = getattr(block, name)
        kernel = weights[f"{PREFIX}conv_{name}.weight"]
        layer.kernel[...] = jnp.asarray(kernel.transpose(2, 3, 4, 1, 0))
        layer.bias[...] = jnp.asarray(weights[f"{PREFIX}conv_{name}.bias"])
    for ours, theirs in block.norm.torch_names.items():
        value = jnp.asarray(weights[f"{PREFIX}bn.{ours}"])
        getattr(block.norm, theirs[0])[...] = value
    block.eval()


@pytest.mark.parametrize("case", GOLDEN_FORMS)
def test_equals_pyslowfast_with_its_gradient(golden, case):
    arrays, weights = golden
    form, pool = GOLDEN_FORMS[case]
    block = non_local.NonLocal(16, 8, form=form, pool=pool, rngs=nnx.Rngs(0))
    fill(block, weights)
    x, w = (jnp.asarray(np.moveaxis(arrays[name], 1, -1)) for name in "xw")

    out, pull = jax.vjp(lambda x: golden_files.run(block, x), x)
    (slope,) = pull(w)

    # Float32 in another order, of values up to 10 (gap to float64: up to 8e-6).
    expected = np.moveaxis(arrays[f"out_{case}"], 1, -1)
    np.testing.assert_allclose(out, expected, atol=3e-5)
    expected = np.moveaxis(arrays[f"gx_{case}"], 1, -1)
    np.testing.assert_allclose(slope, expected, atol=1e-4)


@pytest.mark.parametrize("form", non_local.FORMS)
def test_a_new_block_is_the_identity(form, rng):
    block = non_local.NonLocal(4, 2, form=form, rngs=nnx.Rngs(0))
    x = jnp.asarray(rng.normal(size=(2, 3, 4, 5, 4)), jnp.float32)
    np.testing.assert_array_equal(golden_files.run(block, x), x)


@pytest.mark.parametrize("form", non_local.FORMS)
def test_equals_the_paper_written_with_loops(form, rng):
    block = non_local.NonLocal(
        3, 2, form=form, pool=(1, 1, 1), zero_init=False, rngs=nnx.Rngs(0)
    )
    for leaf in jax.tree.leaves(
        nnx.state(block, nnx.Param), is_leaf=lambda v: isinstance(v, nnx.Variable)
    ):
        leaf[...] = jnp.asarray(rng.normal(size=leaf.shape), jnp.float32)
    nnx.update(block, nnx.state(block))
    block.eval()
    x = jnp.asarray(rng.normal(size=(1, 2, 1, 3, 3)), jnp.float32)

    def dense(layer, values):
        return values @ layer.kernel[...][0, 0, 0] + layer.bias[...]

    rows = np.asarray(x).reshape(6, 3)
    expected = np.zeros((6, 3))
    for i in range(6):
        scores = []
        for j in range(6):
            if form == "gaussian":
                scores.append(np.exp(rows[i] @ rows[j]))
                continue
            theta, phi = dense(block.theta, rows[i]), dense(block.phi, rows[j])
            product = float(theta @ phi)
            if form == "embedded_gaussian":
                scores.append(np.exp(product / np.sqrt(2)))
            elif form == "dot_product":
                scores.append(product)
            else:
                both = jnp.concatenate([theta, phi])
                scores.append(max(0, float(dense(block.score, both)[0])))
        scores = np.array(scores)
        total = scores.sum() if "gaussian" in form else 6
        y = sum(
            s * np.asarray(dense(block.g, r)) for s, r in zip(scores, rows, strict=True)
        )
        z = dense(block.out, jnp.asarray(y / total, jnp.float32))
        expected[i] = rows[i] + np.asarray(block.norm(z))

    np.testing.assert_allclose(block(x).reshape(6, 3), expected, rtol=1e-4, atol=1e-4)


def test_runs_in_bfloat16_and_on_maps_smaller_than_its_pool():
    block = non_local.NonLocal(4, 2, zero_init=False, rngs=nnx.Rngs(0))
    x = jnp.ones((1, 2, 1, 3, 4), jnp.bfloat16)
    assert golden_files.run(block, x).dtype == jnp.bfloat16


def test_rejects_an_unknown_form():
    with pytest.raises(ValueError, match="form"):
        non_local.NonLocal(4, 2, form="cosine", rngs=nnx.Rngs(0))
