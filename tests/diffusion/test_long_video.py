import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow.diffusion import long_video


def test_schedules_are_the_official_ones(test_data):
    file = test_data / "golden" / "generation" / "fdm_index_schedules.json"
    cases = json.loads(file.read_text())["schedules"]
    assert len(cases) >= 16
    for case in cases:
        stages = long_video.schedule(
            case["scheme"],
            case["video_length"],
            given=case["num_obs"],
            most=case["max_frames"],
            new=case["step_size"],
        )
        expected = [(step["observed"], step["latent"]) for step in case["steps"]]
        assert [tuple(stage) for stage in stages] == expected, case["scheme"]


@pytest.mark.parametrize("scheme", long_video.SCHEMES)
def test_every_frame_is_generated_once_from_frames_that_are_done(scheme, rng):
    for _ in range(60):
        most = int(rng.integers(4, 21))
        length, new = int(rng.integers(2, 150)), int(rng.integers(2, most - 1))
        given = int(rng.integers(0, min(most, length)))
        stages = long_video.schedule(scheme, length, given=given, most=most, new=new)
        done = set(range(given))
        for stage in stages:
            assert set(stage.observed) <= done
            assert not set(stage.latent) & done
            assert len(stage.observed) + len(stage.latent) <= most
            assert len(set(stage.latent)) == len(stage.latent) > 0
            done |= set(stage.latent)
        assert done == set(range(length))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"scheme": "backwards"}, "scheme"),
        ({"given": 10}, "given"),
        ({"new": 8}, "new"),
        ({"new": 0}, "new"),
        ({"scheme": "hierarchy-2", "new": 1}, "new"),
        ({"scheme": "hierarchy-2", "most": 3}, "new"),
    ],
)
def test_schedules_that_cannot_be_raise(settings, match):
    settings = {"scheme": "autoreg", "given": 2, "most": 8, **settings}
    with pytest.raises(ValueError, match=match):
        long_video.schedule(settings.pop("scheme"), 10, **settings)


def counting(key, clean, observed, latent, indices):
    """Fills new frames with their numbers plus the mean of those observed."""
    del key
    assert clean.shape[1] == observed.shape[1] == latent.shape[1] == indices.shape[1]
    mean = jnp.sum(clean[..., 0, 0, 0] * observed, 1) / jnp.maximum(observed.sum(1), 1)
    frames = indices.astype(jnp.float32) + 100 * mean[:, None]
    return jnp.broadcast_to(frames[:, :, None, None, None], clean.shape)


@pytest.mark.parametrize("scheme", long_video.SCHEMES)
def test_fill_generates_what_was_not_given_and_keeps_the_rest(scheme, rng):
    video = rng.normal(size=(2, 19, 2, 2, 1)).astype(np.float32)
    stages = long_video.schedule(scheme, 19, given=3, most=6)
    seen = []
    found = long_video.fill(
        jax.random.key(0),
        counting,
        video,
        stages,
        most=6,
        progress=lambda *done: seen.append(done),
    )
    np.testing.assert_array_equal(found[:, :3], video[:, :3])
    assert seen[-1] == (len(stages), len(stages))
    # The rule of `counting`, one clip and stage at a time.
    for clip, own in zip(video, found, strict=True):
        expected = clip[:, 0, 0, 0].copy()
        for stage in stages:
            mean = np.mean([expected[i] for i in set(stage.observed)])
            for i in stage.latent:
                expected[i] = i + 100 * mean
        np.testing.assert_allclose(own[:, 0, 0, 0], expected, rtol=2e-4, atol=1e-3)


def test_fill_rejects_stages_that_cannot_be():
    video, key = np.zeros((1, 9, 1, 1, 1)), jax.random.key(0)
    for stage, match in (
        (long_video.Stage([0], [1, 2, 3]), "takes 3"),
        (long_video.Stage([0], [9]), "of 9"),
        (long_video.Stage([1], [1]), "before"),
    ):
        with pytest.raises(ValueError, match=match):
            long_video.fill(key, counting, video, [stage], most=3)


def test_gaps_are_filled_once_from_frames_that_are_done(rng):
    for _ in range(200):
        length, most = int(rng.integers(2, 60)), int(rng.integers(2, 12))
        observed = rng.uniform(size=length) < rng.choice([0, 0.1, 0.5, 0.9])
        if observed.all():
            continue
        done = set(np.flatnonzero(observed))
        for stage in long_video.between(observed, most=most):
            assert set(stage.observed) <= done
            assert not set(stage.latent) & done
            assert 0 < len(stage.latent) <= most
            assert len(stage.observed) + len(stage.latent) <= most
            done |= set(stage.latent)
        assert done == set(range(length))
    with pytest.raises(ValueError, match="all are given"):
        long_video.between(np.ones(3), most=2)
    with pytest.raises(ValueError, match="new"):
        long_video.between(np.zeros(9), most=4, new=4)
