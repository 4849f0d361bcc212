"""Tests for jaxflow.demo.flow."""

import html.parser
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxflow import checkpoint, cli, demo, io, ops
from jaxflow.demo import flow as demo_flow
from jaxflow.demo import methods
from jaxflow.models.flow import pwcnet

SMALL = pwcnet.Config(
    pyramid=(4, 8, 8, 8),
    convs_per_level=1,
    radius=2,
    decoder=(8, 4),
    dense=False,
    context=(8,),
    context_dilations=(1,),
    standardise_features=True,
    spare_upsampling=False,
)


class Page(html.parser.HTMLParser):
    """Collects what a page shows and what it asks for."""

    def __init__(self, path):
        super().__init__()
        self.images, self.links, self.text = [], [], ""
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        if tag == "img":
            self.images.append(attributes["src"])
        if tag in ("link", "script", "iframe"):
            self.links.append(attributes)

    def handle_data(self, data):
        self.text += data


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(demo_flow, "NETWORK", SMALL)
    monkeypatch.setattr(methods, "SHIPPED", ("jaxflow_fast",))
    monkeypatch.setattr(demo_flow, "SIZE", (32, 48))
    monkeypatch.setattr(demo_flow, "BATCH", 4)
    monkeypatch.setattr(demo_flow, "WEIGHTS", (0.08, 0.02, 0.01))


def test_it_trains_restores_measures_and_writes_one_page(small, tmp_path, rng, capsys):
    paths = [tmp_path / name for name in ("a.png", "b.png")]
    for path in paths:
        io.write_image(path, rng.integers(0, 255, (40, 64, 3), np.uint8))
    arguments = ["--steps", "8", "--output", str(tmp_path / "out"), "--pairs", "2"]

    assert cli.main(["demo", *arguments, "--frames", *map(str, paths)]) == 0

    printed = capsys.readouterr().out
    assert "error relative to zero flow" in printed
    page = Page(tmp_path / "out" / "report.html")
    assert page.links == []
    assert all(image.startswith("data:image/png;base64,") for image in page.images)
    assert "came back bit for bit" in page.text
    for words in (
        "zero flow",
        methods.OURS,
        *methods.SHIPPED,
        "TV-L1",
        "DIS",
        "photograph",
        "Your",
    ):
        assert words in page.text
    rows = [json.loads(row) for row in (tmp_path / "out/run/metrics.jsonl").open()]
    assert rows[-1]["step"] == 8 and "relative_epe" in rows[-1]
    model = pwcnet.Model(SMALL, rngs=demo_flow.nnx.Rngs(1))
    checkpoint.restore(tmp_path / "out" / "run", model)
    # The demo may be run again in the same folder.
    demo_flow._clear(tmp_path / "out" / "run")
    assert not (tmp_path / "out" / "run").exists()


@pytest.mark.parametrize(
    "words", [{"minutes": 0}, {"steps": 3}, {"pairs": 0}, {"seed": "a"}]
)
def test_bad_arguments_are_named(tmp_path, words):
    (name,) = words
    with pytest.raises(ValueError, match=f"`{name}` must be"):
        demo.run(tmp_path, **words)
    assert not list(tmp_path.iterdir())


def test_the_rate_rises_falls_and_ends_near_zero():
    optimiser = demo_flow.make_optimiser(total=100.0)
    params = {"w": jnp.zeros(3)}
    state, rates = optimiser.init(params), []
    with jax.numpy_dtype_promotion("standard"):
        for _ in range(100):
            updates, state = optimiser.update({"w": jnp.ones(3)}, state, params)
            rates.append(float(-updates["w"][0]))
    # Under a constant gradient a step of Adam is the rate.
    np.testing.assert_allclose(max(rates), demo_flow.PEAK_RATE, rtol=1e-2)
    assert 5 <= np.argmax(rates) <= 15
    assert rates[-1] < 0.01 * demo_flow.PEAK_RATE


def test_the_photograph_moves_by_the_flow_that_is_told():
    pytest.importorskip("skimage")
    first, second, flow, visible = demo_flow.moved_photograph()
    assert first.shape == (192, 224, 3) and visible.mean() > 0.85
    one, two = (jnp.asarray(x, jnp.float32) / 255 for x in (first, second))
    error = jnp.abs(ops.backward_warp(two, jnp.asarray(flow)) - one).mean(-1)
    still = jnp.abs(two - one).mean(-1)
    # Bilinear sampling of frame 2 blurs; zero flow is ten times worse.
    assert error[visible].mean() < 0.1 * still[visible].mean()


def test_held_out_scenes_are_not_those_of_training(small):
    scenes = demo_flow.held_out_scenes(2, seed=0)
    batch = jax.jit(demo_flow.draw)(jax.random.key(0))
    frames = np.rint(255 * np.asarray(batch["image1"])).astype(np.uint8)
    assert len(scenes) == 2 and scenes[0][0].dtype == np.uint8
    assert not any((frames == scene[0]).all((1, 2, 3)).any() for scene in scenes)
