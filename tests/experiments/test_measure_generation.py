"""The script that measures folders of videos finds flicker, and what is the same."""

import numpy as np
import pytest

from jaxflow import convert, io, models
from jaxflow.models.video import r3d
from tests.experiments import scripts


@pytest.fixture(scope="module")
def script():
    """Imports the script."""
    with scripts.imported("generation", "measure") as module:
        yield module


def write(path, frames):
    path.parent.mkdir(parents=True, exist_ok=True)
    io.write_video(path, list(frames), fps=5, lossless=True)


@pytest.mark.slow
def test_folders_are_measured_by_recognition_flow_and_pictures(
    script, tmp_path, rng, monkeypatch
):
    monkeypatch.setitem(r3d.VARIANTS, "tiny_r3d", r3d.TINY)
    models._modules.cache_clear()
    weights = tmp_path / "r3d.safetensors"
    convert.save_weights(models.create_model("tiny_r3d"), weights)
    texture = rng.uniform(60, 180, size=(20, 30, 3))
    texture = (texture + np.roll(texture, 1, 0) + np.roll(texture, 1, 1)) / 3
    for name in range(3):
        still = np.stack([texture + 10 * name] * 4)
        gain = np.array([1.0, 0.8, 1.1, 0.9])[:, None, None, None]
        write(tmp_path / "true" / f"{name}.mkv", still.astype(np.uint8))
        write(tmp_path / "same" / f"{name}.mkv", still.astype(np.uint8))
        write(tmp_path / "flicker" / f"{name}.mkv", (gain * still).astype(np.uint8))
    common = {"true": tmp_path / "true", "flow": "lucas_kanade"}
    network = {"network": "tiny_r3d", "weights": weights}
    same = script.main(script.Args(made=tmp_path / "same", **common, **network))
    assert same["psnr"] == np.inf and same["ssim"] == 1 and same["matched"] == 3
    assert abs(same["frechet_tiny_r3d"]) < 1e-6
    assert same["consistency_made"] == same["consistency_true"]
    other = script.main(script.Args(made=tmp_path / "flicker", **common, **network))
    # A still video of gains 1, 0.8, 1.1, 0.9: the error is that of the gains.
    assert 15 < other["psnr"] < 30 and other["ssim"] < 1
    assert other["frechet_tiny_r3d"] > same["frechet_tiny_r3d"]
    assert other["consistency_made"] > 10 * other["consistency_true"] + 1e-3
    models._modules.cache_clear()


def test_what_is_missing_is_said(script, tmp_path):
    (tmp_path / "empty").mkdir()
    args = script.Args(made=tmp_path / "empty", true=tmp_path / "empty")
    with pytest.raises(SystemExit, match="holds no videos"):
        script.main(args)
    with pytest.raises(SystemExit, match="give both"):
        script.main(script.dataclasses.replace(args, network="r3d_18"))
