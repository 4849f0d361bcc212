"""Each recipe of experiments/classical reaches its number."""

import importlib
import pathlib

import pytest

FOLDER = pathlib.Path(__file__).parents[2] / "experiments" / "classical"


@pytest.fixture
def run(monkeypatch):
    """Runs a recipe by name, at a given size."""
    if not FOLDER.is_dir():
        pytest.skip("installed without its experiments")
    monkeypatch.syspath_prepend(str(FOLDER))
    return lambda name, **size: importlib.import_module(name).main(**size)


def test_stabilisation_removes_four_fifths_of_the_jitter(run):
    assert run("stabilise", length=16, size=(64, 80))["ratio"] >= 5


def test_mosaic_is_true_to_half_a_pixel(run):
    numbers = run("mosaic", length=6)
    assert numbers["corner_error_px"] < 0.5
    assert numbers["psnr_db"] > 30


@pytest.mark.slow
def test_slow_motion_beats_the_blend_by_three_decibels(run):
    numbers = run("slow_motion", factors=(4,))
    assert numbers["x4_psnr_db"] > numbers["x4_blend_psnr_db"] + 3


@pytest.mark.slow
def test_compensation_leaves_less_to_send(run):
    numbers = run("compress")
    assert numbers["tvl1_energy"] < 0.2 * numbers["difference_energy"]
    assert numbers["blocks_energy"] < 0.3 * numbers["difference_energy"]
    assert numbers["tvl1_entropy_bits"] < numbers["difference_entropy_bits"] - 1


def test_tracks_stay_on_their_points(run):
    numbers = run("track", length=6)
    assert numbers["error_px"] < 0.1 and numbers["kept"] > 0.5


@pytest.mark.slow
def test_warping_error_sees_flicker(run):
    numbers = run("temporal_consistency", length=3)
    assert numbers["flickering"] > 2 * numbers["steady"]
    assert numbers["plain_difference"] > numbers["flickering"]


@pytest.mark.slow
def test_hand_crafted_features_classify_motion_and_the_mean_frame_does_not(run):
    numbers = run("hand_crafted", train=400, test=200)
    assert numbers["trajectories"] >= 0.9
    assert numbers["dynamic_image_within_pairs"] >= 0.9
    # 200 coin tosses: 50 % +- 3.5 %, three times over.
    assert abs(numbers["mean_frame_within_pairs"] - 0.5) < 0.11
