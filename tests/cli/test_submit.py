"""Tests for jaxflow.cli.submit."""

import numpy as np
import pytest

from jaxflow import cli, io

SIZE = (24, 33)


@pytest.fixture
def kitti(tmp_path, picture):
    """Two pairs of testing."""
    folder = tmp_path / "kitti/testing/image_2"
    folder.mkdir(parents=True)
    for number in (0, 1):
        for end, level in ((10, 51), (11, 102)):
            io.write_image(folder / f"{number:06d}_{end}.png", picture(level))
    return "kitti"


def test_submit_writes_the_tree_and_says_how_to_pack_it(kitti, tmp_path, capsys):
    words = ["submit", "kitti2015", "--model", "brightness", "--data", kitti]
    assert cli.main([*words, "-o", "out"]) == 0
    flow, valid = io.read_kitti(tmp_path / "out/flow/000001_10.png")
    # Steps of 1/64.
    np.testing.assert_allclose(flow, np.full((*SIZE, 2), [0.2, 0.4]), atol=1 / 128)
    assert valid.all()
    assert "zip -r ../result.zip flow" in capsys.readouterr().out
    assert cli.main([*words, "-o", "out2", "-q", "--option", "gain=10"]) == 0
    flow, _ = io.read_kitti(tmp_path / "out2/flow/000000_10.png")
    np.testing.assert_allclose(flow[0, 0], [2, 4], atol=1 / 128)
    assert capsys.readouterr().out == ""


def test_results_do_not_mix_with_other_files(kitti, fails):
    words = ["submit", "kitti2015", "--model", "brightness", "--data", kitti]
    assert "kitti is not empty" in fails(*words, "-o", "kitti")
    assert "holds no testing part of kitti2012" in fails(
        "submit", "kitti2012", *words[2:], "-o", "out"
    )
    words[3] = "unknown"
    assert "'unknown'" in fails(*words, "-o", "out")


def test_zero_flow_can_be_submitted(kitti, tmp_path):
    words = ["submit", "kitti2015", "--model", "zero", "--data", kitti, "-q"]
    assert cli.main([*words, "-o", "out"]) == 0
    flow, _ = io.read_kitti(tmp_path / "out/flow/000000_10.png")
    assert not flow.any()
