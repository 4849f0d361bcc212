"""A sample of experiments/bench/mutate.py: damaged files cost one error, soon."""

import importlib.util
import pathlib
import warnings

import numpy as np
import pytest

PATH = pathlib.Path(__file__).parents[2] / "experiments" / "bench" / "mutate.py"
spec = importlib.util.spec_from_file_location("mutate", PATH)
assert spec is not None and spec.loader is not None
mutate = importlib.util.module_from_spec(spec)
spec.loader.exec_module(mutate)


@pytest.mark.parametrize("kind", mutate.KINDS)
def test_damaged_files_are_refused_by_name_or_read(kind, tmp_path, monkeypatch):
    if kind in ("mp4", "mkv", "avi", "webm"):
        pytest.importorskip("av")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = mutate.run(kind, 0, 40, tmp_path)
    assert result.get("faults", 0) == 0, result["first_faults"]
    assert result["refused"] > 0


def test_what_a_reader_does_wrong_is_counted(tmp_path, monkeypatch):
    path = tmp_path / "x.flo"
    answers = {
        "read": lambda *_: None,
        "refused": lambda *_: (_ for _ in ()).throw(ValueError(f"{path}: damaged")),
        "names no file": lambda *_: (_ for _ in ()).throw(ValueError("damaged")),
        "KeyError": lambda *_: {}["x"],
        "takes more than": lambda *_: [None for _ in iter(int, 1)],
    }
    monkeypatch.setattr(mutate, "SECONDS", 0.05)
    for expected, reader in answers.items():
        monkeypatch.setattr(mutate, "read", reader)
        assert mutate.try_one("flo", path).startswith(expected)


def test_damage_follows_from_the_seed_and_checksums_are_mended():
    from jaxflow.io import png

    chunks = png._chunk(b"IHDR", bytes(13)) + png._chunk(b"IEND", b"")
    data = png.SIGNATURE + chunks
    broken = bytearray(data)
    broken[20] ^= 1
    assert mutate._with_checksums(data) == data
    mended = mutate._with_checksums(bytes(broken))
    assert mended != data and next(iter(png._chunks("x", mended)))[1] != bytes(13)
    one, two = (mutate.mutate(data, np.random.default_rng(i)) for i in (3, 3))
    assert one == two != data
