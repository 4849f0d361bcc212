"""Tests for jaxflow.data.mixtures."""

import collections
import pickle

import numpy as np
import pytest

from jaxflow.data import loaders, mixtures


def source(name, count):
    return [{"image": np.full((2, 2), i), "id": f"{name}{i}"} for i in range(count)]


def test_shares_are_those_of_the_weights_and_no_source_is_cut():
    mixture = mixtures.Mixture([source("a", 10), source("b", 40)], [1, 2])
    # b needs 40 elements, of which a has half.
    names = [element["id"] for element in mixture]
    seen = collections.Counter(name[0] for name in names)
    assert seen == {"a": 20, "b": 40} and len(mixture) == 60
    times = collections.Counter(names)
    assert {times[f"a{i}"] for i in range(10)} == {2}
    assert {times[f"b{i}"] for i in range(40)} == {1}


def test_sources_take_turns_evenly():
    mixture = mixtures.Mixture([source("a", 30), source("b", 60)], [0.5, 1.0])
    names = [element["id"][0] for element in mixture]
    for start in range(0, 90, 3):
        assert names[start : start + 3].count("a") == 1
    assert [e["id"] for e in mixture if e["id"][0] == "a"] == [
        f"a{i}" for i in range(30)
    ]


@pytest.mark.parametrize("seed", range(5))
def test_any_weights_are_met_to_one_element(seed):
    rng = np.random.default_rng(seed)
    sources = [source(name, int(rng.integers(1, 60))) for name in "abcd"]
    weights = rng.uniform(0.05, 3, 4)
    mixture = mixtures.Mixture(sources, weights)
    seen = collections.Counter(element["id"][0] for element in mixture)
    assert all(seen[n] >= len(s) for n, s in zip("abcd", sources, strict=True))
    length = max(len(s) / w for s, w in zip(sources, weights, strict=True))
    for name, weight in zip("abcd", weights, strict=True):
        assert abs(seen[name] - weight * length) <= 1


def test_a_loader_goes_on_exactly_where_it_was():
    pytest.importorskip("grain")
    mixture = mixtures.Mixture([source("a", 7), source("b", 20)], [1, 1])

    def load():
        return loaders.batches(
            mixture,
            lambda element, rng: element,
            batch_size=4,
            seed=3,
            shuffle=True,
            epochs=None,
            shard=(0, 1),
            workers=0,
        )

    iterator = iter(load())
    for _ in range(6):
        next(iterator)
    position = iterator.get_state()
    expected = [next(iterator)["id"].tolist() for _ in range(5)]
    again = iter(load())
    again.set_state(position)
    assert [next(again)["id"].tolist() for _ in range(5)] == expected


def test_it_can_be_sent_to_a_worker_and_ends():
    mixture = mixtures.Mixture([source("a", 3), source("b", 2)], [1, 1])
    copy = pickle.loads(pickle.dumps(mixture))
    assert [e["id"] for e in copy] == [e["id"] for e in mixture]
    assert copy[-1]["id"] == mixture[len(mixture) - 1]["id"]
    with pytest.raises(IndexError):
        mixture[len(mixture)]


@pytest.mark.parametrize(
    ("sources", "weights", "said"),
    [
        ([source("a", 3)], [1, 2], "one a source"),
        ([], [], "one a source"),
        ([source("a", 3), []], [1, 1], "number 1 is"),
        ([source("a", 3), source("b", 3)], [1, 0], "above 0"),
        ([source("a", 3), source("b", 3)], [1, float("nan")], "above 0"),
    ],
)
def test_weights_that_say_nothing_are_refused(sources, weights, said):
    with pytest.raises(ValueError, match=said):
        mixtures.Mixture(sources, weights)
