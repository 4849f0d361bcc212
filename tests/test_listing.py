"""Tests for jaxflow.listing."""

import shutil
import subprocess
import sys

import pytest

from jaxflow import cost, listing, models

REFRESH = "run `jaxflow models --measure`, and commit jaxflow/*.json"


def test_the_tables_say_what_the_networks_say():
    found = listing.read()
    assert found is not None, f"a model's file says other things: {REFRESH}"
    assert found == listing.ask(), REFRESH
    assert found["pwcnet"]["parameters"] == cost.listed("pwcnet").parameters
    assert found["tvl1"]["weights"] == "none needed"
    assert found["raft_small"]["task"] == "flow"


def test_rows_are_those_of_a_task():
    video = listing.rows("video")
    assert video.keys() == set(models.list_models("video"))
    parts = [listing.rows(task) for task in models.TASKS]
    assert {name for part in parts for name in part} == listing.rows().keys()


def test_networks_are_asked_where_the_table_is_missing(monkeypatch, tmp_path):
    monkeypatch.setattr(listing, "TABLE", tmp_path / "listing.json")
    monkeypatch.setattr(listing, "ask", lambda: {"mine": {"task": "flow"}})
    assert listing.read() is None
    assert listing.rows() == {"mine": {"task": "flow"}}


@pytest.mark.parametrize(
    ("change", "fits"),
    [
        (lambda text: text + "\n\ndef more():\n    pass\n", True),
        (lambda text: text.replace('"c3d": ', '"c3d_mine": Config(), "c3d": '), False),
        (lambda text: text.replace("Apache-2.0", "MIT"), False),
    ],
    ids=["code", "variant", "licence"],
)
def test_a_variant_that_the_table_does_not_know_is_seen(
    monkeypatch, tmp_path, change, fits
):
    copy = tmp_path / "models"
    shutil.copytree(listing._MODELS, copy)
    monkeypatch.setattr(listing, "_MODELS", copy)
    path = copy / "video/c3d.py"
    changed = change(path.read_text())
    assert changed != path.read_text()
    path.write_text(changed)
    assert (listing.read() is not None) == fits


def test_a_new_file_is_seen(monkeypatch, tmp_path):
    copy = tmp_path / "models"
    shutil.copytree(listing._MODELS, copy)
    monkeypatch.setattr(listing, "_MODELS", copy)
    (copy / "video/mine.py").write_text('VARIANTS = {"mine": 1}\nRECORD = 2\n')
    assert listing.read() is None


def test_the_command_imports_no_network():
    program = (
        "import sys; from jaxflow import cli; cli.main(['models']);"
        "print('jax' in sys.modules, 'flax' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines()[-1] == "False False"
    assert "slowfast_4x16_r50" in run.stdout
