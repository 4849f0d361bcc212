"""Tests for jaxflow.estimate."""

import cv2
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

import jaxflow
from jaxflow import classical, estimate, inference, models, spec, spreading
from jaxflow.models.flow import raft, spynet
from tests.probe import Probe, Start


@pytest.fixture
def pair(rng):
    return rng.integers(0, 256, (2, 37, 53, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def tiny():
    model = spynet.Model(spynet.TINY, rngs=nnx.Rngs(jax.random.key(0)))
    model.eval()
    return model


def to_size(image, size):
    return cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR)


def test_opencv_policy_is_that_of_the_official_script(pair):
    frames = spec.Frames(multiple=64, method="opencv_uint8")
    flow = jaxflow.estimate_flow(Probe(frames, scale=4), *pair)
    one, two = (to_size(frame, (64, 64)) / np.float32(255) for frame in pair)
    seen = np.stack([one[::4, ::4, 0], two[::4, ::4, 1]], axis=-1)
    # Flow in pixels of a quarter of 64 x 64: to pixels of 37 x 53.
    expected = to_size(seen, (37, 53)) * np.float32([53 / 16, 37 / 16])
    np.testing.assert_allclose(flow, expected, atol=1e-5)


@pytest.mark.parametrize("method", ["half_pixel", "align_corners"])
def test_resize_policies_match_torch_conventions(pair, method):
    probe = Probe(spec.Frames(multiple=32, method=method, flow_method=method))
    flow = jaxflow.estimate_flow(probe, *pair)
    align = method == "align_corners"
    seen = jaxflow.ops.resize(jnp.float32(pair[0] / 255), (64, 64), align_corners=align)
    back = jaxflow.ops.resize(seen, (37, 53), align_corners=align)[..., 0]
    np.testing.assert_allclose(flow[..., 0], back * (53 / 64), atol=1e-5)


@pytest.mark.parametrize(
    ("pad", "pads"), [("both", ((1, 2), (1, 2))), ("bottom", ((0, 3), (1, 2)))]
)
def test_padding_is_cut_off_again(pair, pad, pads):
    frames = spec.Frames(multiple=8, fit="pad", pad=pad)
    np.testing.assert_array_equal(inference._pads((37, 53), (40, 56), frames), pads)
    flow = jaxflow.estimate_flow(Probe(frames), *pair)
    np.testing.assert_allclose(flow[..., 0], pair[0, ..., 0] / 255, atol=1e-6)
    np.testing.assert_allclose(flow[..., 1], pair[1, ..., 1] / 255, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "frames", "expected"),
    [
        ((436, 1024), {"multiple": 64}, (448, 1024)),
        ((436, 1024), {"multiple": 8, "fit": "pad"}, (440, 1024)),
        ((100, 60), {"multiple": 64, "minimum": (256, 512)}, (256, 512)),
        ((100, 60), {"multiple": 8, "minimum": (130, 1), "fit": "pad"}, (136, 64)),
        # |448/1024 - 436/1024| = .0117 beats 384/1024, 384/1088, 448/1088.
        ((436, 1024), {"multiple": 64, "fit": "resize_nearest"}, (448, 1024)),
        # 384/1280 = .300 is closest to 375/1242 = .302.
        ((375, 1242), {"multiple": 64, "fit": "resize_nearest"}, (384, 1280)),
        ((128, 192), {"multiple": 64, "fit": "resize_nearest"}, (128, 192)),
        ((30, 30), {"multiple": 64, "fit": "resize_nearest"}, (64, 64)),
        ((5, 7), {"multiple": 1}, (5, 7)),
    ],
    ids=str,
)
def test_the_size_that_a_network_sees(size, frames, expected):
    assert estimate.network_size(size, spec.Frames(**frames)) == expected


def test_batches_have_any_leading_axes_and_equal_singles(tiny, rng):
    frames = rng.uniform(size=(2, 2, 3, 33, 45, 3)).astype(np.float32)
    flow = jaxflow.estimate_flow(tiny, *frames)
    assert flow.shape == (2, 3, 33, 45, 2)
    assert flow.dtype == np.float32 and isinstance(flow, np.ndarray)
    alone = jaxflow.estimate_flow(tiny, frames[0][1, 2], frames[1][1, 2])
    # Another batch size is another order of sums.
    np.testing.assert_allclose(alone, flow[1, 2], atol=1e-4)


def test_a_model_in_training_mode_is_evaluated_and_stays_as_it_is(pair):
    probe = Probe(spec.Frames(multiple=1))
    probe.train()
    jaxflow.estimate_flow(probe, *pair)
    assert probe.deterministic is False


GOOD = np.zeros((8, 9, 3), np.float32)


@pytest.mark.parametrize(
    "name", [pytest.param("tvl1", marks=pytest.mark.slow), "lucas_kanade"]
)
def test_classical_methods_go_by_name(name):
    y, x = np.mgrid[:48, :64]
    scene = 0.5 + 0.2 * np.sin(x / 3.0)[..., None] + 0.2 * np.cos(y / 4.0)[..., None]
    scene = np.repeat(scene, 3, axis=-1)
    flow = jaxflow.estimate_flow(name, scene, np.roll(scene, 1, axis=1))
    assert flow.shape == (48, 64, 2)
    np.testing.assert_allclose(np.median(flow[8:-8, 8:-8, 0]), 1.0, atol=0.1)


@pytest.mark.parametrize("batch_size", [1, 2, 4, 7])
def test_a_clip_is_its_pairs(rng, batch_size):
    clip = rng.uniform(size=(5, 16, 24, 3)).astype(np.float32)
    probe = Probe(spec.Frames(multiple=1))
    flow = jaxflow.estimate_clip(probe, clip, batch_size=batch_size)
    assert flow.shape == (4, 16, 24, 2)
    for index in range(4):
        expected = jaxflow.estimate_flow(probe, clip[index], clip[index + 1])
        np.testing.assert_array_equal(flow[index], expected)


def test_a_clip_may_be_a_generator_and_is_read_as_it_is_needed(rng):
    clip, read = rng.uniform(size=(9, 8, 8, 3)), []

    def frames():
        for index, frame in enumerate(clip):
            read.append(index)
            yield frame

    flows = jaxflow.stream_flow(Probe(spec.Frames(multiple=1)), frames(), batch_size=2)
    next(flows)
    assert read == [0, 1, 2]
    assert len(list(flows)) == 7


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(
    "how",
    [{"batch_size": 1}, {"batch_size": 2, "backward": True}, {"warm_start": True}],
    ids=str,
)
def test_frames_may_come_in_one_buffer(rng, monkeypatch, how, dtype):
    def ends(frame1, frame2, *, initial_flow=None):
        return jnp.stack([frame1[..., 0], frame2[..., 0]], -1)

    monkeypatch.setitem(classical.METHODS, "ends", ends)
    clip = rng.integers(0, 256, (6, 8, 12, 3), dtype=np.uint8)
    clip = clip if dtype == np.uint8 else (clip / 255).astype(dtype)

    def reused():
        buffer = np.empty_like(clip[0])
        for frame in clip:
            buffer[:] = frame
            yield buffer

    found = list(jaxflow.stream_flow("ends", reused(), **how))
    np.testing.assert_array_equal(
        found, list(jaxflow.stream_flow("ends", list(clip), **how))
    )
    first = clip[1] if "backward" in how else clip[0]
    expected = first[..., 0] / (255 if dtype == np.uint8 else 1)
    np.testing.assert_allclose(found[0][..., 0], expected, atol=1e-6)


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_a_stream_backward_is_of_each_frame_and_the_one_before(rng, batch_size):
    frames = rng.integers(0, 256, (4, 9, 11, 3), dtype=np.uint8)
    probe = Probe(spec.Frames(multiple=1))
    found = list(
        jaxflow.stream_flow(probe, frames, batch_size=batch_size, backward=True)
    )
    expected = jaxflow.estimate_flow(probe, frames[1:], frames[:-1])
    np.testing.assert_array_equal(np.stack(found), expected)
    with pytest.raises(ValueError, match="leave `backward` out"):
        jaxflow.stream_flow("tvl1", frames, backward=True, warm_start=True)


def test_a_clip_that_is_none_is_an_error(rng):
    probe = Probe(spec.Frames(multiple=1))
    with pytest.raises(ValueError, match="at least two frames"):
        jaxflow.estimate_clip(probe, rng.uniform(size=(1, 8, 8, 3)))
    with pytest.raises(ValueError, match="one size"):
        jaxflow.estimate_clip(probe, [GOOD, GOOD[1:]])
    with pytest.raises(ValueError, match="`batch_size` must be a whole number"):
        jaxflow.estimate_clip(probe, [GOOD, GOOD], batch_size=0)


class Shift(nnx.Module):
    """A "network" that knows the answer: +2 px if frame 1 is the darker one."""

    def __init__(self):
        self.frames = spec.Frames(multiple=1)

    def __call__(self, image1, image2):
        sign = jnp.where(image1.mean() < image2.mean(), 2.0, -2.0)
        return jnp.broadcast_to(jnp.array([sign, 0.0]), (*image1.shape[:-1], 2))


def test_both_ways_marks_what_leaves_the_frame():
    dark, bright = np.zeros((8, 10, 3)), np.ones((8, 10, 3))
    both = jaxflow.estimate_both_ways(Shift(), dark, bright)
    assert both.forward[0, 0].tolist() == [2, 0]
    assert both.backward[0, 0].tolist() == [-2, 0]
    expected = np.zeros((8, 10), bool)
    expected[:, 8:] = True
    np.testing.assert_array_equal(both.occluded1, expected)
    np.testing.assert_array_equal(both.occluded2, expected[:, ::-1])


def test_the_public_face_has_every_name():
    assert set(jaxflow._FUNCTIONS) <= set(dir(jaxflow))
    for name in jaxflow._FUNCTIONS:
        assert callable(getattr(jaxflow, name))
    assert jaxflow.models is models
    with pytest.raises(AttributeError, match="no attribute 'estimate_flwo'"):
        jaxflow.estimate_flwo  # noqa: B018


def test_memory_holds_weights_and_frames_and_grows_with_them():
    model = spynet.Model(spynet.TINY, rngs=nnx.Rngs(0))
    weights = sum(x.size for x in jax.tree.leaves(nnx.state(model, nnx.Param)))
    needs = [
        estimate.memory_of_flow(model, *np.zeros((2, side, side, 3), np.uint8))
        for side in (64, 128)
    ]
    assert needs[0] > 4 * weights + 2 * 64**2 * 3 + 4 * 64**2 * 2
    assert needs[1] > needs[0] + 2 * (128**2 - 64**2) * 3
    assert estimate.memory_of_flow("horn_schunck", *np.zeros((2, 32, 32, 3))) > 0


@pytest.mark.parametrize("tile", [None, 24])
@pytest.mark.parametrize(
    "frames",
    [spec.Frames(multiple=8, fit="pad"), spec.Frames(multiple=32)],
    ids=lambda frames: frames.fit,
)
def test_a_starting_flow_goes_with_its_frames(pair, frames, tile):
    # A resize of a field that is linear gives that field.
    y, x = np.mgrid[:37, :53].astype(np.float32)
    start = np.stack([0.1 * x - 2, 0.2 * y + 1], -1)
    words = {"options": {"initial_flow": start}, "tile": tile, "overlap": 8}
    flow = jaxflow.estimate_flow(Start(frames), *pair, **words)
    inner = np.s_[4:-4, 4:-4]
    np.testing.assert_allclose(flow[inner], start[inner], atol=2e-2)
    batch = np.stack([pair, pair[::-1]])
    starts = np.stack([start, -start])
    words["options"] = {"initial_flow": starts}
    flows = jaxflow.estimate_flow(Start(frames), *batch.swapaxes(0, 1), **words)
    np.testing.assert_allclose(flows[1], -flows[0], atol=1e-5)
    np.testing.assert_allclose(flows[0], flow, atol=1e-5)


@pytest.mark.parametrize(
    "name", [pytest.param("tvl1", marks=pytest.mark.slow), "horn_schunck"]
)
def test_a_classical_method_starts_from_an_array(name):
    # Five pixels are too far for one level; from a start nearby they are found.
    y, x = np.mgrid[:48, :64]
    scene = 0.5 + 0.2 * np.sin(x / 2.0)[..., None] + 0.2 * np.cos(y / 3.0)[..., None]
    scene = np.repeat(scene, 3, axis=-1)
    frames = scene, np.roll(scene, 5, axis=1)
    options = {"levels": 1}
    cold = jaxflow.estimate_flow(name, *frames, options=options)
    start = np.zeros((48, 64, 2))
    start[..., 0] = 4.5
    options["initial_flow"] = start
    warm = jaxflow.estimate_flow(name, *frames, options=options)
    inner = np.s_[10:-10, 10:-10, 0]
    assert np.abs(warm[inner] - 5).mean() < 0.2 < np.abs(cold[inner] - 5).mean()


def test_raft_starts_from_a_flow_of_its_grid_or_of_the_frames(rng):
    model = raft.Model(raft.TINY, rngs=nnx.Rngs(jax.random.key(0)))
    frames = rng.integers(0, 256, (2, 128, 136, 3), dtype=np.uint8)
    coarse = np.broadcast_to(np.float32([0.5, -0.25]), (16, 17, 2))
    whole = np.broadcast_to(np.float32([4.0, -2.0]), (128, 136, 2))
    given = [
        jaxflow.estimate_flow(model, *frames, options={"initial_flow": start})
        for start in (coarse, whole)
    ]
    np.testing.assert_allclose(*given, atol=1e-4)
    cold = jaxflow.estimate_flow(model, *frames)
    assert np.abs(given[0] - cold).max() > 0.5


def test_a_warm_start_carries_each_flow_to_the_next_pair(rng):
    clip = rng.uniform(size=(4, 24, 32, 3)).astype(np.float32)
    model = Start(spec.Frames(multiple=1))
    start = np.zeros((24, 32, 2), np.float32)
    start[..., 0] = 2.0
    flows = jaxflow.estimate_clip(
        model, clip, warm_start=True, options={"initial_flow": start}
    )
    # A constant flow, carried along itself, is that flow.
    np.testing.assert_allclose(flows, np.stack([start] * 3), atol=1e-5)
    cold = jaxflow.estimate_clip(model, clip, warm_start=True)
    assert not cold.any()
    with pytest.raises(ValueError, match="`warm_start` needs an estimator that takes"):
        jaxflow.estimate_clip(Probe(spec.Frames(multiple=1)), clip, warm_start=True)


def test_a_clip_shorter_than_the_batch_is_not_filled_up(rng, monkeypatch):
    monkeypatch.setattr(spreading, "devices", lambda: jax.local_devices()[:1])
    sizes = []

    class Watch(Probe):
        def __call__(self, image1, image2):
            sizes.append(image1.shape[0])
            return super().__call__(image1, image2)

    clip = rng.uniform(size=(3, 8, 8, 3)).astype(np.float32)
    model = Watch(spec.Frames(multiple=1))
    assert len(jaxflow.estimate_clip(model, clip, batch_size=10**6)) == 2
    assert sizes == [2]


@pytest.mark.parametrize("keywords", [{}, {"tile": 24, "overlap": 8}])
def test_the_devices_share_pairs_and_tiles(tiny, rng, monkeypatch, keywords):
    one, two = rng.integers(0, 256, (2, 3, 37, 53, 3), dtype=np.uint8)
    shared = jaxflow.estimate_flow(tiny, one, two, **keywords)
    monkeypatch.setattr(spreading, "devices", lambda: jax.local_devices()[:1])
    alone = jaxflow.estimate_flow(tiny, one, two, **keywords)
    # Products are summed in another order for batches of another size.
    np.testing.assert_allclose(shared, alone, atol=1e-4)


@pytest.mark.parametrize("options", [["a"], 3, "levels"], ids=repr)
def test_options_that_are_no_mapping_are_one_clear_error(pair, options):
    message = f"`options` must be a dict of keywords.*; got {type(options).__name__}$"
    for warm in (False, True):
        with pytest.raises(ValueError, match=message):
            jaxflow.estimate_clip(
                "horn_schunck", np.stack(pair), options=options, warm_start=warm
            )
