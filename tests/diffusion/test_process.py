import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow.diffusion import parameterisations, process, schedules


def test_steps_are_those_of_the_schedule():
    linear = process.Process()
    steps = process.sampling_steps(linear, 10, spacing="leading")
    bars = schedules.alpha_bars(schedules.linear_betas(1000))
    np.testing.assert_array_equal(steps.time, np.arange(900, -1, -100))
    np.testing.assert_allclose(steps.alpha**2, bars[900::-100], rtol=1e-5)
    # A shorter schedule is told on the same scale, and ends as noisy.
    short = process.Process(count=50)
    steps = process.sampling_steps(short, 50)
    np.testing.assert_array_equal(steps.time, np.arange(980, -1, -20))
    assert abs(steps.alpha[0] ** 2 - bars[-1]) < 1e-3
    backwards = process.Process(noisiest_first=True)
    np.testing.assert_array_equal(process.told(backwards, [0, 999]), [999, 0])


def test_no_data_are_left_where_the_process_says_so():
    flat = process.Process(
        schedule="cosine", zero_terminal_snr=True, predicts="velocity"
    )
    assert process.sampling_steps(flat, 5).alpha[0] == 0
    with pytest.raises(ValueError, match="zero_terminal_snr"):
        process.Process(zero_terminal_snr=True)


@pytest.mark.parametrize("kind", parameterisations.KINDS)
def test_noise_is_added_and_said_as_the_process_does(kind):
    data = jax.random.normal(jax.random.key(0), (64, 2, 3, 3, 1))
    own = process.Process(schedule="cosine", predicts=kind)
    found = process.add_noise(jax.random.key(1), own, data)
    np.testing.assert_allclose(found.alpha**2 + found.sigma**2, 1, atol=1e-6)
    bars = process.alpha_bars(own)
    np.testing.assert_allclose(
        found.alpha**2, bars[np.asarray(found.time, int)], rtol=1e-5
    )
    assert 300 < found.time.mean() < 700 and len(np.unique(found.time)) > 50
    back = parameterisations.estimate(
        kind, found.target, found.noisy, found.alpha, found.sigma
    )
    sure = np.asarray(found.alpha) > 0.01
    np.testing.assert_allclose(back.data[sure], data[sure], atol=1e-3)
    np.testing.assert_allclose(
        np.std(jnp.where(found.alpha[:, None, None, None, None] < 1, found.noisy, 0)),
        1,
        atol=0.1,
    )


@pytest.mark.parametrize(
    "options", [{"schedule": "square"}, {"predicts": "score"}, {"count": 0}]
)
def test_unknown_processes_raise(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        process.Process(**options)
