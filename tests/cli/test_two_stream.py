"""Tests for jaxflow.cli.two_stream."""

import dataclasses

import numpy as np
import pytest

import jaxflow
from jaxflow import cli, convert, io, models, viz
from jaxflow.data import flow_pictures
from jaxflow.models.video import resnet3d
from jaxflow.models.video import two_stream as networks

SMALL = networks.Config(
    num_classes=5,
    crop_size=32,
    num_frames=2,
    stack=2,
    bottleneck=False,
    blocks=(1, 1, 1, 1),
    width=4,
)
CLASSIFY = ["classify", "clip", "--model", "tiny_two", "--weights", "two.safetensors"]


@pytest.fixture
def streams(monkeypatch):
    """Adds tiny networks of two streams, of flow and of frames, and their weights."""
    variants = {"tiny_two": SMALL}
    for name in ("rgb", "flow"):
        variants[f"tiny_{name}"] = dataclasses.replace(SMALL, streams=name)
    for name, config in variants.items():
        monkeypatch.setitem(networks.VARIANTS, name, config)
    monkeypatch.setitem(resnet3d.VARIANTS, "tiny_network", resnet3d.TINY)
    models._modules.cache_clear()
    built = {name: models.create_model(name, seed=3) for name in variants}
    for name, model in built.items():
        convert.save_weights(model, f"{name.removeprefix('tiny_')}.safetensors")
    yield built
    models._modules.cache_clear()


@pytest.fixture
def flows(clip, rng):
    """Pictures of flow of the clip, in the folder "flow"; returns their codes."""
    coded = viz.quantize_flow(rng.normal(0, 8, (3, 24, 33, 2)))
    flow_pictures.write_flow_pictures("flow", coded)
    return coded


def lines(scores):
    order = np.argsort(-scores, kind="stable")
    return [f"{scores[i]:.4f}  {i}" for i in order]


def test_flow_is_estimated_and_kept(streams, clip, capsys):
    model = streams["tiny_two"]
    inside = jaxflow.two_stream.WithFlow(model, "brightness", options={"gain": 10.0})
    words = ["--two-stream", "brightness", "--flow-option", "gain=10.0"]
    assert cli.main([*CLASSIFY, *words]) == 0
    expected = lines(jaxflow.classify_video(inside, clip))
    assert capsys.readouterr().out.splitlines() == expected
    # Every frame is of one colour: whole frames and crops have the same flow, but for
    # the rounding to 8 bits.
    assert cli.main([*CLASSIFY, *words, "--flow-cache", "kept"]) == 0
    place = jaxflow.flow_cache.cached_flow(
        "brightness", clip, "kept", options={"gain": 10.0}, short_side=37
    )
    kept = jaxflow.classify_video(model, clip, flow=place)
    assert capsys.readouterr().out.splitlines() == lines(kept)


def test_flow_is_read_from_pictures(streams, clip, flows, capsys):
    assert cli.main([*CLASSIFY, "--two-stream", "flow", "--grad-cam", "c.png"]) == 0
    frames = np.stack(list(io.read_frames(clip)))
    scores = jaxflow.classify_video(streams["tiny_two"], frames, flow=flows)
    assert capsys.readouterr().out.splitlines()[:5] == lines(scores)
    assert io.read_image("c.png").shape == (2 * 32 + 2, 2 * 32 + 2, 3)
    words = ["classify", "flow", "--model", "tiny_flow", "--weights"]
    words += ["flow.safetensors", "--grad-cam", "d.png"]
    assert cli.main(words) == 0
    scores = jaxflow.classify_video(streams["tiny_flow"], flows)
    assert capsys.readouterr().out.splitlines()[:5] == lines(scores)


def test_each_stream_may_have_a_file(streams, clip, flows, capsys):
    words = ["classify", clip, "--model", "tiny_two", "--two-stream", "flow"]
    words += ["--weights", "rgb.safetensors", "--stream-weights", "flow.safetensors"]
    assert cli.main(words) == 0
    model = jaxflow.two_stream.load_streams(
        models.create_model("tiny_two"), "rgb.safetensors", "flow.safetensors"
    )
    frames = np.stack(list(io.read_frames(clip)))
    expected = lines(jaxflow.classify_video(model, frames, flow=flows))
    assert capsys.readouterr().out.splitlines() == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "--two-stream: tiny_two sees flow: name an estimator"),
        ("--two-stream none", "--two-stream: no estimator of flow is named 'none'"),
        ("--two-stream pwcnet", "--flow-weights: pwcnet needs a file of weights"),
        ("--two-stream clip", "clip: no pictures of flow there"),
        ("--two-stream short", "short: has 1 flows for a video of 4 frames"),
        ("--two-stream flow --flow-cache x", "--flow-cache: is for an estimator"),
        (
            "--two-stream brightness --flow-option a=1",
            "--flow-option: brightness has no option",
        ),
        ("--flow-cache x", "--two-stream: tiny_two sees flow"),
        ("--two-stream brightness --flow-cache two.safetensors", "must be a folder"),
        ("--two-stream brightness --frames 4", "must be a multiple of 3, the frames"),
    ],
)
def test_what_does_not_fit_is_one_line(streams, flows, fails, words, message):
    flow_pictures.write_flow_pictures("short", flows[:1])
    assert message in fails(*CLASSIFY, *words.split())


def test_networks_that_see_no_flow_say_so(streams, recogniser, flows, fails):
    words = ["--model", "tiny_network", "--weights", "net.safetensors"]
    assert "tiny_network sees no flow" in fails(
        "classify", "clip", *words, "--two-stream", "tvl1"
    )
    assert "--flow-cache: is for --two-stream" in fails(
        "classify", "clip", *words, "--flow-cache", "x"
    )
    # Pictures of flow are no frames.
    assert "several clips" in fails("classify", "flow", *words)
    assert "is flow, which is estimated from frames" in fails(
        "classify", "flow", *CLASSIFY[2:], "--two-stream", "tvl1"
    )
    assert "tiny_network has no two streams" in fails(
        "classify", "clip", *words, "--stream-weights", "net.safetensors"
    )
