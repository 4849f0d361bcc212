"""A sample of experiments/bench/mutate_video.py."""

import importlib
import pathlib
import time

import numpy as np
import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "experiments" / "bench"


@pytest.fixture
def bench(monkeypatch):
    if not FOLDER.is_dir():
        pytest.skip("installed without its experiments")
    monkeypatch.syspath_prepend(str(FOLDER))
    return importlib.import_module("mutate_video")


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_a_mutated_video_is_read_or_is_one_error_that_names_it(tmp_path, bench, seed):
    rng, refused = np.random.default_rng(seed), 0
    for name, data in bench.sources(tmp_path).items():
        for number in range(8):
            path = tmp_path / name
            path.write_bytes(bench.mutate(data, rng))
            start = time.process_time()
            fault, raised = bench.fault_of(path, lenient=number % 2 == 1)
            assert not fault
            # No number in a header makes it read for ever.
            assert time.process_time() - start < 60
            refused += raised
    assert refused > 10


def test_what_is_not_mutated_is_read(tmp_path, bench):
    for name in bench.sources(tmp_path):
        assert bench.fault_of(tmp_path / name) == ("", False)


def test_the_bench_sees_other_errors(tmp_path, bench, monkeypatch):
    def broken(path, **_):
        raise KeyError("no error of a reader")

    monkeypatch.setattr(bench.io, "read_video", broken)
    fault, raised = bench.fault_of(tmp_path / "x.mp4")
    assert raised and "KeyError" in fault
