"""The recipe of AVA: boxes, loss, films and drawn clips."""

import dataclasses
import importlib
import json
import pathlib
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from jaxflow import checkpoint
from jaxflow.data import ava as tables
from jaxflow.models.video import resnet3d
from tests.data.builders import test_ava, video_trees

FOLDER = pathlib.Path(__file__).parents[2] / "experiments" / "video"
CONFIG = dataclasses.replace(
    resnet3d.TINY,
    regions="aligned",
    head_mode="sigmoid_mean",
    temporal_pool=False,
    num_classes=2,
    num_frames=4,
    crop_size=32,
    frame_stride=2,
)
NAMES = ("recipe", "core", "ava")
TRAIN, VALIDATION = "-5KQ66BBWC4", "1j20qq1JyX4"


@pytest.fixture(scope="module")
def module():
    """Imports the recipe, as a script sees what is beside it."""
    if not FOLDER.is_dir():
        pytest.skip("installed without its experiments")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        for name in NAMES:
            patch.delitem(sys.modules, name, raising=False)
        yield importlib.import_module("ava")
        for name in NAMES:
            sys.modules.pop(name, None)


@pytest.fixture(autouse=True)
def one_device(monkeypatch):
    device = jax.devices()[:1]
    monkeypatch.setattr(jax, "devices", lambda *args: device)


@pytest.fixture
def root(tmp_path):
    pytest.importorskip("tensorflow_datasets")
    root = tmp_path / "ava"
    films = [f"trainval/{TRAIN}.mkv", f"trainval/{VALIDATION}.mp4"]
    video_trees.make(root, *films, frames=50)
    lists = {f"annotations/{name}": text for name, text in test_ava.LISTS.items()}
    return video_trees.write(root, lists)


def element(boxes, labels, film="a", second=3):
    return {
        "path": f"/films/{film}.mp4",
        "time": np.float32(second),
        "boxes": np.float32(boxes),
        "labels": np.array(labels, bool),
    }


def test_proposals_do_what_the_person_does_that_they_overlap(module):
    one, two = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 0.5)
    source = [element([one, two], [[1, 0], [0, 1]]), element([one], [[1, 0]], second=4)]
    rows = [
        tables.Box("a", 3, (0.5, 0.0, 0.98, 0.5), None, 0.9),  # 0.96 of the second
        tables.Box("a", 3, (0.5, 0.0, 0.94, 0.5), None, 0.9),  # 0.88
        tables.Box("a", 3, (0.0, 0.0, 0.49, 1.0), None, 0.7),  # not sure enough
        tables.Box("a", 5, one, None, 0.9),
    ]
    found = module.WithProposals(source, rows)
    assert len(found) == 2
    np.testing.assert_allclose(found[0]["boxes"], [one, two, rows[0].corners])
    np.testing.assert_array_equal(found[0]["labels"], [[1, 0], [0, 1], [0, 1]])
    np.testing.assert_array_equal(found[1]["boxes"], [one])
    with pytest.raises(IndexError):
        found[2]


def test_the_loss_is_the_mean_over_the_boxes_there_are(module):
    rng = np.random.default_rng(0)
    scores, labels = rng.normal(size=(6, 5)) * 3, rng.random((2, 3, 5)) < 0.5
    there = np.array([[True, False, True], [True, False, False]])
    share = 1 / (1 + np.exp(-scores))
    entropy = -np.where(labels.reshape(6, 5), np.log(share), np.log(1 - share))
    seen = {}

    def model(clip, rows):
        seen["rows"] = np.asarray(rows)
        return jnp.float32(scores)

    boxes = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    batch = {"clip": None, "boxes": boxes, "there": there, "labels": labels}
    loss, _ = module.detect_loss(model, jax.tree.map(jnp.asarray, batch))
    np.testing.assert_allclose(loss, entropy[[0, 2, 3]].mean(), rtol=1e-6)
    np.testing.assert_array_equal(seen["rows"][:, 0], [0, -1, 0, 1, -1, -1])
    np.testing.assert_array_equal(seen["rows"][:, 1:], boxes.reshape(6, 4))


def test_drawn_clips_stand_side_by_side_in_their_boxes(module):
    clips = jnp.arange(8.0)[:, None, None, None, None] / 8 * jnp.ones((1, 2, 3, 3, 3))
    parts = {"clip": clips, "label": jnp.arange(8) % 3}
    there = np.array([[True, True, True, False], [True] * 4])
    batch = module.side_by_side(parts, jnp.asarray(there), 3)
    assert batch["clip"].shape == (2, 2, 6, 6, 3)
    for example, place in np.ndindex(2, 4):
        x1, y1, x2, y2 = np.asarray(batch["boxes"][example, place], int)
        inside = batch["clip"][example, :, y1:y2, x1:x2]
        seen = there[example, place]
        np.testing.assert_array_equal(
            inside, (4 * example + place) / 8 if seen else 0.5
        )
        expected = np.eye(3)[(4 * example + place) % 3] * seen
        np.testing.assert_array_equal(batch["labels"][example, place], expected)
    with pytest.raises(ValueError, match="`size` must be even"):
        module.half((16, 33))


def test_scores_of_drawn_clips_are_of_their_boxes(module, tmp_path):
    """A network that knows which box it is asked for finds all."""
    args = module.Args(workdir=tmp_path, frames=2)
    config = dataclasses.replace(CONFIG, num_classes=8, num_frames=2)

    class Knows(nnx.Module):
        def __init__(self):
            self.config = config

        def __call__(self, clip, rows):
            # The places follow each other; the fourth row of an example is first.
            return jnp.broadcast_to(rows[:, 1:2] / 100 + rows[:, 2:3], (len(rows), 8))

    truth, found = module.rows_of_drawn(Knows(), args, 3)
    assert len(truth) == 12 and len(found) == 12 * 8
    for row in found:
        assert row.score == pytest.approx(row.corners[0] / 100 + row.corners[1])


@pytest.mark.slow
def test_a_run_begins_with_kinetics_trains_on_films_and_is_tested(
    module, root, tmp_path, capsys
):
    published = dataclasses.replace(
        CONFIG, regions="none", head_mode="logit_mean", num_classes=7
    )
    start = resnet3d.Model(published, rngs=nnx.Rngs(9))
    checkpoint.save(tmp_path / "kinetics", start)
    lists = {
        "proposals.csv": f"{TRAIN},0002,0.077,0.151,0.283,0.811,,0.9\n",
        # One of a moment that nobody is annotated at, one of an excluded one, and one
        # that is not sure.
        "boxes.csv": f"{VALIDATION},0001,0.1,0.2,0.3,0.4,,0.95\n"
        f"{VALIDATION},0002,0.1,0.2,0.3,0.4,,0.95\n"
        f"{VALIDATION},0004,0.1,0.2,0.3,0.4,,0.95\n"
        f"{VALIDATION},0003,0.1,0.2,0.3,0.4,,0.5\n",
    }
    video_trees.write(tmp_path, lists)
    args = module.Args(
        workdir=tmp_path / "run",
        start=tmp_path / "kinetics",
        data=(str(root),),
        test=(str(root),),
        proposals=tmp_path / "proposals.csv",
        boxes=tmp_path / "boxes.csv",
        prepared=tmp_path / "tfds",
        steps=2,
        batch_size=1,
        people=4,
        model="slow_4x16_r50_ava",
    )
    module.main(args, CONFIG)
    line = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert line["stage"] == "ava" and 0 <= line["map"] <= 1
    assert (line["moments"], line["boxes"], line["damaged"]) == (2, 2, 0)
    rows = [json.loads(row) for row in (tmp_path / "run/ava/metrics.jsonl").open()]
    assert rows[-1]["step"] == 2
    assert all(np.isfinite(row["loss"]) and row["grad_norm"] > 0 for row in rows)
    assert json.loads((tmp_path / "run/ava/classes.json").read_text())


def test_films_are_judged_as_the_official_evaluation_does(
    module, root, tmp_path, monkeypatch
):
    """The truth itself has 1; a wrong score for another class costs what it should."""
    model = resnet3d.Model(CONFIG, rngs=nnx.Rngs(0))
    args = module.Args(workdir=tmp_path, test=(str(root),), prepared=tmp_path / "tfds")

    def detect(model, path, boxes, **options):
        (box,) = boxes
        scores = np.float32([[0.9, 0.2]])
        yield module.detect.Moment(box.second, np.array([box.corners]), scores)

    monkeypatch.setattr(module.detect, "detect_actions", detect)
    # In the film of validation one person does the first action.
    found = module.test(model, args, "ava")
    assert found == {"map": 1.0, "moments": 1, "boxes": 1, "damaged": 0}
    counted = root / "annotations/ava_action_list_v2.2_for_activitynet_2019.pbtxt"
    counted.write_text('label {\n name: "stand"\n label_id: 12\n}\n')
    assert np.isnan(module.test(model, args, "ava")["map"])

    def fail(model, path, boxes, **options):
        raise ValueError("damaged")

    monkeypatch.setattr(module.detect, "detect_actions", fail)
    with (
        pytest.warns(UserWarning, match="left out of the test: damaged"),
        pytest.raises(ValueError, match="none of its films can be scored"),
    ):
        module.test(model, args, "ava")
    other = dataclasses.replace(CONFIG, num_classes=3)
    with pytest.raises(ValueError, match="has 2 classes, the model 3"):
        module.test(resnet3d.Model(other, rngs=nnx.Rngs(0)), args, "ava")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "slow_r50"}, r"`model` must be one of \['slow_4x16_r50_ava'"),
        ({"views": (10, 3)}, "`views`: has no meaning"),
    ],
)
def test_what_has_no_meaning_is_refused(module, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        module.main(module.Args(workdir=tmp_path, **options))


def test_boxes_of_other_films_are_refused(module, root, tmp_path):
    path = tmp_path / "boxes.csv"
    path.write_text("other,0001,0.1,0.2,0.3,0.4,,0.95\n")
    model = resnet3d.Model(CONFIG, rngs=nnx.Rngs(0))
    args = module.Args(
        workdir=tmp_path, test=(str(root),), boxes=path, prepared=tmp_path / "tfds"
    )
    with pytest.raises(ValueError, match="has no box of these films"):
        module.test(model, args, "ava")
