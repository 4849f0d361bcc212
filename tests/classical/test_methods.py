"""What every entry of classical.METHODS owes."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow import classical

# TV-L1's presets share their code with the defaults, and are tested on their own.
NAMES = sorted(set(classical.METHODS) - {"tvl1_skimage", "tvl1_wide"})


@pytest.mark.parametrize("name", NAMES)
def test_batched_bfloat16_colour_frames_give_float32_flow(name):
    frame = jax.ShapeDtypeStruct((2, 3, 40, 48, 3), jnp.bfloat16)
    flow = jax.eval_shape(classical.METHODS[name], frame, frame)
    assert flow.shape == (2, 3, 40, 48, 2) and flow.dtype == jnp.float32


# The rest share their guard with these; block matching and phases have their own.
FLAT_NAMES = [
    "affine", "block_matching", "phase_correlation", "lucas_kanade",
    pytest.param("homography", marks=pytest.mark.slow),
    pytest.param("horn_schunck", marks=pytest.mark.slow),
    pytest.param("brox", marks=pytest.mark.slow),
    pytest.param("tvl1", marks=pytest.mark.slow),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", FLAT_NAMES)
def test_to_and_from_flat_frames_nothing_moves_and_nan_is_seen(pair, name):
    one, _, _ = pair((np.eye(2), (0.0, 0.0)))
    one = np.asarray(one, np.float32)[:40, :48]
    white = np.ones_like(one)
    # What coding makes of a white frame.
    nearly = white - np.indices(one.shape).sum(0) % 2 / np.float32(255)
    nan = np.where(np.indices(one.shape).sum(0) == 40, np.nan, one)
    frames = {"zero": 0 * one, "white": white, "nearly": nearly, "one": one}
    pairs = [
        ("zero", "zero"), ("zero", "white"), ("one", "zero"), ("one", "nearly"),
        ("white", "one"), ("nearly", "one"), ("one", "one"),
    ]  # fmt: skip
    firsts, seconds = zip(*((frames[a], frames[b]) for a, b in pairs), strict=True)
    firsts, seconds = [*firsts, one, nan], [*seconds, nan, one]
    flow = jax.jit(classical.METHODS[name])(np.stack(firsts), np.stack(seconds))
    flow = np.asarray(flow)
    # Of equal frames: rounding.
    np.testing.assert_allclose(flow[:7], 0, atol=1e-5)
    assert np.isnan(flow[7:]).any((1, 2, 3)).all()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("lucas_kanade", {"iterations": 2}),
        ("horn_schunck", {"warps": 3, "iterations": 20}),
        pytest.param("brox", {"warps": 2}, marks=pytest.mark.slow),
        pytest.param("tvl1", {"warps": 2}, marks=pytest.mark.slow),
    ],
)
def test_equal_frames_do_not_move_at_all(rng, name, options):
    frame = rng.random((28, 32, 3), np.float32)
    method = jax.jit(functools.partial(classical.METHODS[name], **options))
    np.testing.assert_array_equal(method(frame, frame.copy()), 0)


@pytest.mark.parametrize("name", ["affine", "homography", "phase_correlation"])
def test_global_methods_find_a_shift(pair, epe, name):
    one, two, truth = pair((np.eye(2), (3.0, -2.0)))
    flow = jax.jit(classical.METHODS[name])(one, two)
    # Phase correlation is a search on whole pixels with a refined peak.
    assert epe(flow, truth) < (0.3 if name == "phase_correlation" else 0.02)
