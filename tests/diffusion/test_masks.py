import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow.diffusion import masks


@pytest.fixture
def golden(test_data):
    folder = test_data / "golden" / "generation"
    info = json.loads((folder / "fdm_training_masks.json").read_text())
    return info, dict(np.load(folder / "fdm_training_masks.npz"))


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("unconditional", 1, "0000000"),
        ("future", 3, "1110000"),
        ("past", 2, "0000011"),
        ("interpolate", 2, "1000001"),
        ("interpolate", 3, "1100001"),
    ],
)
def test_tasks(name, given, expected):
    found = masks.task(name, 7, given=given)
    assert "".join(str(int(frame)) for frame in found) == expected


def test_tasks_that_cannot_be_raise():
    for name, given in (("future", 0), ("past", 7), ("interpolate", 1), ("today", 1)):
        with pytest.raises(ValueError, match=r"given|name"):
            masks.task(name, 7, given=given)


def test_frames_of_draws_follow_the_papers_formula(rng):
    length, most = 30, 8
    rows = [(rng.integers(1, 9), *rng.uniform(size=2)) for _ in range(200)]
    columns = [jnp.asarray(column) for column in zip(*rows, strict=True)]
    found = masks.frames_of_draws(
        *(column.astype(jnp.float32) for column in columns), length=length, most=most
    )
    for row, (number, scale, position) in zip(found, rows, strict=True):
        spacing = np.exp(scale * np.log(length / (number - 0.999)))
        start = position * (length - spacing * (number - 1))
        expected = start + spacing * np.arange(number)
        near = np.abs(expected - np.round(expected)) < 1e-4
        if not near.any():  # float32 may fall to either side of a whole number
            np.testing.assert_array_equal(np.flatnonzero(row), expected.astype(int))


def agreement(found, expected):
    """Returns the two-sample chi-squared statistic and its degrees of freedom."""
    found, expected = np.ravel(found).astype(float), np.ravel(expected).astype(float)
    used = found + expected >= 10
    gap = (found - expected)[used] ** 2 / (found + expected)[used]
    return gap.sum(), used.sum() - 1


def gaps(rows):
    counts = np.zeros(16)
    for row in rows:
        values, numbers = np.unique(np.diff(np.flatnonzero(row)), return_counts=True)
        counts[values] += numbers
    return counts


def test_training_masks_have_the_official_distribution(golden):
    from scipy import stats

    info, _ = golden
    expected, draws = info["histograms"], info["draws"]
    draw = jax.jit(lambda key: masks.training_masks(key, draws, 16, 8))
    observed, latent = (np.asarray(mask) for mask in draw(jax.random.key(0)))
    assert not np.any(observed * latent)
    count_observed, count_latent = observed.sum(1), latent.sum(1)
    joint = np.histogram2d(count_observed, count_latent, bins=[np.arange(10)] * 2)[0]
    sets = np.asarray(masks.frames_at_a_scale(jax.random.key(1), draws, 16, 8))
    first, last = sets.argmax(1), 15 - sets[:, ::-1].argmax(1)
    independent = {
        "number_observed": np.bincount(count_observed.astype(int), minlength=9),
        "number_latent": np.bincount(count_latent.astype(int), minlength=9),
        "number_total": np.bincount(
            (count_observed + count_latent).astype(int), minlength=9
        ),
        "joint_observed_latent": joint,
        "some_indices_count": np.bincount(sets.sum(1), minlength=9),
        "some_indices_first": np.bincount(first, minlength=16),
        "some_indices_last": np.bincount(last, minlength=16),
    }
    for name, histogram in independent.items():
        chi2, freedom = agreement(histogram, expected[name])
        assert stats.chi2.sf(chi2, freedom) > 1e-4, (name, chi2, freedom)
    dependent = {
        "gap_of_selected": gaps(observed + latent),
        "gap_of_latent": gaps(latent),
        "some_indices_gap": gaps(sets),
        "observed_per_index": observed.sum(0),
        "latent_per_index": latent.sum(0),
    }
    for name, histogram in dependent.items():
        chi2, freedom = agreement(histogram, expected[name])
        assert chi2 < 3 * freedom, (name, chi2, freedom)


def test_training_masks_end_where_all_frames_fit():
    observed, latent = masks.training_masks(jax.random.key(0), 50, 4, 8)
    assert np.all(observed + latent <= 1)
    assert np.all(latent.sum(1) >= 1)


def rows_of(arrays, *names):
    return [jnp.asarray(arrays[name].reshape(3, -1)) for name in names]


def test_selected_frames_are_those_of_the_masks(golden):
    _, arrays = golden
    observed, latent = rows_of(arrays, "obs_mask_rows", "latent_mask_rows")
    found = masks.select(observed, latent, 8)
    for row in range(3):
        used = np.flatnonzero(observed[row] + latent[row])
        expected = np.zeros(8, int)
        expected[: len(used)] = used
        np.testing.assert_array_equal(found.indices[row], expected)
        for mask, own in ((observed, found.observed), (latent, found.latent)):
            values = np.zeros(8)
            values[: len(used)] = mask[row][used]
            np.testing.assert_array_equal(own[row], values)


@pytest.mark.parametrize("name", ["gathered", "padded"])
def test_filled_padding_is_the_official_batch(golden, name):
    _, arrays = golden
    observed, latent, batch = rows_of(
        arrays, "obs_mask_rows", "latent_mask_rows", "batch"
    )
    drawn = jnp.asarray(arrays[f"{name}_indices"], jnp.int32)
    found, padding = masks.fill_padding(
        masks.select(observed, latent, 8), drawn, observed, latent
    )
    np.testing.assert_array_equal(found.indices, drawn)
    kept = rows_of(arrays, f"{name}_obs", f"{name}_latent", f"{name}_batch")
    np.testing.assert_array_equal(found.observed, kept[0])
    np.testing.assert_array_equal(found.latent, kept[1])
    video = batch[..., None, None, None]
    frames = masks.gather(video, found.indices)[..., 0, 0, 0]
    if name == "padded":
        frames = jnp.where(padding, frames + 1000, frames)
    np.testing.assert_array_equal(frames, kept[2])
