"""Tests for jaxflow.data.scene_recipes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow.data import synthetic


@pytest.mark.slow
def test_chairs_move_as_the_real_ones_do():
    # 1000 pairs: half the sampling error of the widest quantile is 6 %.
    assert chairs_statistics(1000) == pytest.approx(CHAIRS, rel=0.2)


# Mean, median, 75th, 95th and 99th percentile of |flow| on real samples, px.
CHAIRS = [8.8, 2.9, 10.1, 27.0, 59.0]


def chairs_statistics(pairs):
    @jax.jit
    def magnitude(key):
        flow = synthetic.flow_batch(key, preset="chairs", batch_size=40)["flow"]
        return jnp.linalg.norm(flow[:, ::8, ::8], axis=-1)

    keys = jax.random.split(jax.random.key(0), pairs // 40)
    values = np.concatenate([magnitude(key) for key in keys])
    return [values.mean(), *np.percentile(values, [50, 75, 95, 99])]
