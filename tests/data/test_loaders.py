"""Tests for jaxflow.data.loaders."""

import multiprocessing
import os
import signal
import sys

import numpy as np
import pytest

from jaxflow.data import loaders


class Pairs:
    """Frames whose pixels say which pair and which place they are from."""

    def __init__(self, count, size=(10, 14)):
        self.count, self.size = count, size

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if not 0 <= index < self.count:
            raise IndexError(index)
        y, x = np.indices(self.size)
        image = np.stack([np.full_like(x, index), y, x], axis=-1).astype(np.uint8)
        flow = np.stack([x, y], axis=-1).astype(np.float32)
        return {"image1": image, "image2": image, "flow": flow, "id": index}


def ids(loader, batches):
    iterator = iter(loader)
    return [int(i) for _ in range(batches) for i in next(iterator)["id"]]


def test_a_batch_is_floats_in_range_and_crops_agree():
    batch = next(iter(loaders.flow_loader(Pairs(9), batch_size=4, crop=(6, 8))))
    assert batch["image1"].shape == (4, 6, 8, 3)
    assert batch["image1"].dtype == batch["flow"].dtype == np.float32
    place = np.rint(batch["image1"] * 255)
    np.testing.assert_array_equal(place[..., 0], place[:, :1, :1, 0] + np.zeros((6, 8)))
    np.testing.assert_array_equal(place[..., 0][:, 0, 0], batch["id"])
    np.testing.assert_array_equal(place[..., :0:-1], batch["flow"])
    np.testing.assert_array_equal(batch["image2"], batch["image1"])


def test_an_epoch_sees_each_pair_once_and_each_has_its_own_order():
    seen = ids(loaders.flow_loader(Pairs(12), batch_size=4), 6)
    first, second = seen[:12], seen[12:]
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second
    assert first != list(range(12))


def test_the_order_follows_from_the_seed():
    def order(seed):
        return ids(loaders.flow_loader(Pairs(12), batch_size=4, seed=seed), 3)

    assert order(1) == order(1)
    assert order(1) != order(2)


@pytest.mark.parametrize("seed", ["a", 1.5, None, -1])
def test_a_seed_that_is_none_is_named(seed):
    with pytest.raises(ValueError, match=r"`seed` must be .*, 0 or more; got"):
        loaders.flow_loader(Pairs(12), batch_size=4, seed=seed)


def test_without_shuffling_the_order_is_the_sources_and_ends():
    loader = loaders.flow_loader(Pairs(5), batch_size=2, shuffle=False, epochs=1)
    assert [batch["id"].tolist() for batch in loader] == [[0, 1], [2, 3]]


def test_resuming_continues_bit_for_bit():
    loader = loaders.flow_loader(Pairs(9), batch_size=2, crop=(6, 8))
    iterator = iter(loader)
    for _ in range(3):
        next(iterator)
    state = iterator.get_state()
    expected = [next(iterator) for _ in range(4)]

    resumed = iter(loader)
    resumed.set_state(state)
    for batch in expected:
        other = next(resumed)
        for name in batch:
            np.testing.assert_array_equal(other[name], batch[name])


def test_worker_processes_change_nothing_and_leave_interrupts_to_their_reader():
    # A list, which travels to the workers by value.
    source = [Pairs(6)[k] for k in range(6)]
    alone, helped = (
        iter(loaders.flow_loader(source, batch_size=4, crop=(6, 8), workers=n))
        for n in (0, 1)
    )
    for _ in range(2):
        batch = next(helped)
        for name, expected in next(alone).items():
            np.testing.assert_array_equal(batch[name], expected)
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGINT)
    for _ in range(6):
        batch = next(helped)
        for name, expected in next(alone).items():
            np.testing.assert_array_equal(batch[name], expected)
    helped.close()


def test_crops_differ_from_epoch_to_epoch():
    loader = loaders.flow_loader(Pairs(1), batch_size=1, crop=(6, 8))
    iterator = iter(loader)
    corners = {tuple(next(iterator)["flow"][0, 0, 0]) for _ in range(20)}
    assert len(corners) > 5


def test_shards_share_the_pairs_out():
    seen = [
        ids(loaders.flow_loader(Pairs(12), batch_size=3, shard=(k, 2)), 2)
        for k in (0, 1)
    ]
    assert sorted(seen[0] + seen[1]) == list(range(12))


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"batch_size": 0}, "`batch_size` must be positive; got 0"),
        ({"batch_size": 5}, "`batch_size` is 5, but the source has 4 elements"),
        ({"batch_size": 2, "shard": (2, 2)}, r"`shard` must be .* got \(2, 2\)"),
    ],
)
def test_rejects_what_it_cannot_load(options, fault):
    with pytest.raises(ValueError, match=fault):
        loaders.flow_loader(Pairs(4), **options)


def test_a_crop_larger_than_a_frame_is_an_error():
    with pytest.raises(ValueError, match=r"`crop` \(11, 8\) is larger than a frame"):
        loaders.random_crop(Pairs(1)[0], (11, 8), np.random.default_rng(0))


@pytest.mark.parametrize("shard", [(0, 1), (0, 2), (1, 2)])
def test_an_evaluation_sees_each_pair_exactly_once(shard):
    loader = loaders.flow_loader(
        Pairs(5), batch_size=2, shuffle=False, epochs=1, shard=shard, keep_rest=True
    )
    seen = [batch["id"].tolist() for batch in loader]
    assert [i for ids in seen for i in ids] == list(range(5))[shard[0] :: shard[1]]
    assert all(len(ids) == 2 for ids in seen[:-1])
    with pytest.raises(ValueError, match="keep_rest"):
        loaders.flow_loader(Pairs(5), batch_size=2, keep_rest=True)


def test_images_are_scaled_by_their_own_type():
    element = Pairs(2)[1]
    wide = {"image1": element["image1"].astype(np.uint16) * 257}
    source = [element | wide, element | {"image2": element["image2"] / 255}]
    batch = next(iter(loaders.flow_loader(source, batch_size=2, shuffle=False)))
    expected = element["image1"] / np.float32(255)
    for name in ("image1", "image2"):
        for image in batch[name]:
            np.testing.assert_allclose(image, expected, atol=1e-7)
    source = [element | {"image1": element["image1"].astype(np.int32)}]
    with pytest.raises(ValueError, match="`image1` must be uint8"):
        next(iter(loaders.flow_loader(source, batch_size=1)))


def test_without_grain_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "grain", None)
    with pytest.raises(ImportError, match=r"^this needs Grain \(.*\): run `pip .*`$"):
        loaders.flow_loader(Pairs(4), batch_size=2)


def test_images_may_stay_in_8_bits():
    rng = np.random.default_rng(0)
    elements = [
        {
            "image1": rng.integers(0, 256, (6, 8, 3), np.uint8),
            "image2": rng.integers(0, 2**16, (6, 8, 3), np.uint16),
            "flow": np.zeros((6, 8, 2), np.float32),
        }
    ]
    options = {"batch_size": 1, "epochs": 1, "shuffle": False}
    (batch,) = loaders.flow_loader(elements, uint8=True, **options)
    assert batch["image1"].dtype == batch["image2"].dtype == np.uint8
    np.testing.assert_array_equal(batch["image1"][0], elements[0]["image1"])
    expected = np.rint(elements[0]["image2"] / 257)
    np.testing.assert_array_equal(batch["image2"][0], expected)
    assert batch["flow"].dtype == np.float32
