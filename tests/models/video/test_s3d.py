import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import cost
from jaxflow.models.video import s3d


def test_has_torchvisions_number_of_parameters():
    model = cost.describe("s3d")
    leaves = jax.tree.leaves(nnx.state(model, nnx.Param))
    assert sum(leaf.size for leaf in leaves) == 8_320_048


def test_reads_every_key_of_torchvision_once(read_names):
    def unit(prefix):
        yield f"{prefix}.0.weight"
        norm = ("weight", "bias", "running_mean", "running_var")
        yield from (f"{prefix}.1.{leaf}" for leaf in norm)

    # Layers 5 to 15 are Inception blocks, with max-pools at 7 and 13.
    keys = ["classifier.1.weight", "classifier.1.bias"]
    prefixes = ["features.0.0", "features.0.1", "features.2", "features.3.0"]
    prefixes += ["features.3.1"]
    for block in (5, 6, 8, 9, 10, 11, 12, 14, 15):
        prefixes += [f"features.{block}.branch0", f"features.{block}.branch3.1"]
        for branch in (1, 2):
            for part in ("0", "1.0", "1.1"):
                prefixes.append(f"features.{block}.branch{branch}.{part}")
    keys += [key for prefix in prefixes for key in unit(prefix)]

    paths = read_names(s3d.KEYS["torchvision"], keys)

    model = cost.describe("s3d")
    assert "no row" not in paths.values()
    assert (
        len(set(paths.values()))
        == len(keys)
        == len(nnx.to_flat_state(nnx.state(model)))
    )


def test_a_gate_scales_channels_by_their_mean(rng):
    gate = s3d.Gate(3, rngs=nnx.Rngs(0))
    x = rng.normal(size=(2, 2, 2, 2, 3)).astype(np.float32)
    mean = x.mean((1, 2, 3)) @ np.asarray(gate.dense.kernel[...])
    expected = x / (1 + np.exp(-mean))[:, None, None, None]
    np.testing.assert_allclose(gate(jnp.asarray(x)), expected, atol=1e-6)


@pytest.mark.slow
def test_takes_clips_from_five_frames_of_17_pixels(run):
    model = s3d.Model(s3d.TINY, rngs=nnx.Rngs(0))
    model.eval()
    assert run(model, jnp.ones((2, 5, 17, 33, 3), jnp.bfloat16)).shape == (2, 5)
    with pytest.raises(ValueError, match="17 x 17"):
        model(jnp.ones((1, 4, 17, 17, 3)))
