"""What the tests of the command line share: a method, pictures, a tiny network."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow import classical, cli, convert, io, models
from jaxflow.cli import flow
from jaxflow.models.video import resnet3d

SIZE = (24, 33)


def brightness(frame1, frame2, *, gain: float = 1.0):
    """A method whose flow can be told from its frames."""
    corner = jnp.stack([frame1[0, 0, 0], frame2[0, 0, 0]]) * gain
    return jnp.broadcast_to(corner, (*frame1.shape[:2], 2))


@pytest.fixture(autouse=True)
def method(monkeypatch, tmp_path):
    """Adds a method, and works in an empty folder."""
    known = {**getattr(classical, "METHODS", {}), "brightness": brightness}
    monkeypatch.setattr(classical, "METHODS", known, raising=False)
    monkeypatch.setattr(flow, "DEFAULT_MODEL", "brightness")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path.with_name("cache")))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def picture():
    """Returns a function that draws a gray picture."""

    def draw(level, size=SIZE):
        return np.full((*size, 3), level, np.uint8)

    return draw


@pytest.fixture
def pair(tmp_path, picture):
    """Names of two pictures, of gray 51 and 102 (0.2 and 0.4)."""
    for name, level in (("eins.png", 51), ("zwei ü.jpg", 102)):
        io.write_image(tmp_path / name, picture(level))
    return ["eins.png", "zwei ü.jpg"]


@pytest.fixture
def clip(tmp_path, picture):
    """Name of a folder of four pictures, ever brighter."""
    (tmp_path / "clip").mkdir()
    for index in range(4):
        io.write_image(tmp_path / f"clip/f{index}.png", picture(51 * index))
    return "clip"


@pytest.fixture
def fails(capfd):
    """Returns a function that runs a command which must fail, and gives its line."""

    def run(*words):
        try:
            code = cli.main(words)
        except SystemExit as stop:
            code = stop.code
        error = capfd.readouterr().err
        assert code == 2
        assert error.count("\n") == 1, error
        return error

    return run


@pytest.fixture
def recogniser(monkeypatch):
    """Adds a tiny recognition network, and its weights as a file."""
    name = "tiny_network"
    monkeypatch.setitem(resnet3d.VARIANTS, name, resnet3d.TINY)
    models._modules.cache_clear()
    model = models.create_model(name, seed=3)
    convert.save_weights(model, "net.safetensors")
    yield model
    models._modules.cache_clear()


@pytest.fixture
def odd(tmp_path, pair, picture):
    """Makes inputs that are odd or bad."""
    (tmp_path / "text.txt").write_text("neither picture nor video")
    for name in ("empty", "single"):
        (tmp_path / name).mkdir()
    io.write_image("single/1.png", picture(0))
    io.write_image("small.png", picture(0, (8, 8)))
