"""Tests for jaxflow.cli.convert."""

import numpy as np
import pytest

from jaxflow import cli, convert, models


def test_convert_keeps_every_weight(tmp_path):
    model = models.create_model("spynet_chairs", seed=3)
    convert.save_weights(model, "a.safetensors")
    words = ["convert", "a.safetensors", "--model", "spynet_chairs"]
    assert cli.main([*words, "-o", "b.safetensors"]) == 0
    before, after = (convert.read_checkpoint(f"{x}.safetensors") for x in "ab")
    assert before.keys() == after.keys()
    for name in before:
        np.testing.assert_array_equal(before[name], after[name])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("convert text.txt --model spynet -o x.bin", "--output: must be a file in"),
        ("convert text.txt --model nosuch -o x.safetensors", "no model is named"),
        ("convert text.txt --model spynet -o x.safetensors", "text.txt"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(odd, tmp_path, fails, words, message):
    before = sorted(tmp_path.rglob("*"))
    assert message in fails(*words.split())
    left = [path for path in sorted(tmp_path.rglob("*")) if path not in before]
    assert all(path.is_dir() for path in left)
