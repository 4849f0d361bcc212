"""Tests for jaxflow.io.torch_files.

The fixtures were written by torch; make_torch_checkpoints.py beside them says how.
"""

import contextlib
import pathlib
import pickle
import struct
import tracemalloc
import zipfile

import numpy as np
import pytest

from jaxflow.io import torch_files, torch_objects

FIXTURES = pathlib.Path(__file__).parent.parent / "fixtures"
RAMP = np.arange(24, dtype=np.float32)
EXPECTED = {
    "float": np.array([[0.1, -0.2, 0.3], [1e-30, 1e30, -0.0]], np.float32),
    "half": np.array([0.5, -2.0], np.float16),
    "bfloat": np.array([1.5, -3.0, 2.0**100], np.float32),
    "double": np.array(1 / 3),
    "long": np.array([-1, 2**40]),
    "byte": np.array([0, 255], np.uint8),
    "bool": np.array([True, False]),
    "empty": np.zeros((0, 3), np.float32),
    "transposed": RAMP.reshape(4, 6).T,
    "tail": RAMP[18:],
    "strided": RAMP[1::5],
    "expanded": np.full((2, 3), 7, np.float32),
    "parameter": np.array([[1, 2], [3, 4]], np.float32),
}


class Call:
    """Pickles as a call of any global, as an attack would."""

    def __init__(self, function, *arguments):
        self.reduced = function, arguments

    def __reduce__(self):
        return self.reduced


def named(module, name):
    """A pickle whose whole content is one global."""
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"."


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth.tar"])
def test_reads_what_torch_wrote(name):
    saved = torch_files.read_torch(FIXTURES / name)
    assert (saved["epoch"], saved["best"], saved["arch"]) == (3, 0.25, "net")
    assert list(saved["state_dict"]) == list(EXPECTED)
    for key, expected in EXPECTED.items():
        actual = saved["state_dict"][key]
        assert actual.dtype == expected.dtype, key
        # Only bytes are moved, so nothing may differ.
        np.testing.assert_array_equal(actual, expected, err_msg=key)


@pytest.mark.parametrize("protocol", range(6))
def test_reads_numpy_pickles_of_every_protocol(tmp_path, protocol):
    blobs = {"conv1_w": np.arange(6, dtype=">f4").reshape(2, 3), "n": np.int64(3)}
    blobs["fortran"] = np.asfortranarray(np.eye(3)[:2])
    path = tmp_path / "weights.pkl"
    path.write_bytes(pickle.dumps({"blobs": blobs}, protocol=protocol))
    saved = torch_files.read_torch(path)["blobs"]
    for key, expected in blobs.items():
        np.testing.assert_array_equal(saved[key], expected)


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("os", "system"),
        ("posix", "system"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("torch", "load"),
        ("torch._utils", "_rebuild_device_tensor_from_numpy"),
        ("numpy", "load"),
        ("jaxflow.io.torch_files", "read_torch"),
    ],
)
def test_refuses_every_other_global_by_name(tmp_path, module, name):
    path = tmp_path / "evil.pth"
    path.write_bytes(named(module, name))
    with pytest.raises(ValueError, match=rf"evil.pth: refers to {module}\.{name}"):
        torch_files.read_torch(path)


@pytest.mark.parametrize("in_zip", [False, True])
def test_never_runs_a_call(tmp_path, in_zip):
    witness = tmp_path / "ran"
    calls = [Call(pathlib.Path.touch, witness), Call(pathlib.Path, witness)]
    payload = pickle.dumps({"args": calls, "state_dict": {"w": np.ones(2)}})
    path = tmp_path / "evil.pth"
    if in_zip:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", payload)
    else:
        path.write_bytes(payload)
    saved = torch_files.read_torch(path)
    np.testing.assert_array_equal(saved["state_dict"]["w"], np.ones(2))
    assert not witness.exists()


def test_refuses_to_set_attributes_of_what_it_builds_with(tmp_path):
    # BUILD with a slot state is a setattr on whatever lies on the stack.
    attack = b"\x80\x02ctorch._utils\n_rebuild_tensor\nN}X\x01\x00\x00\x00aK\x01s\x86b."
    path = tmp_path / "evil.pth"
    path.write_bytes(attack)
    with pytest.raises(ValueError, match="sets attributes"):
        torch_files.read_torch(path)
    assert not hasattr(torch_objects._rebuild_tensor, "a")


def test_object_arrays_are_refused(tmp_path):
    path = tmp_path / "objects.pkl"
    path.write_bytes(pickle.dumps(np.array([None, {}], dtype=object)))
    with pytest.raises(ValueError, match="elements of type 'O"):
        torch_files.read_torch(path)


def tensor_pickle(size=(4,), stride=(1,), offset=0, count=4):
    """Pickle opcodes of {"w": one float tensor}, whose header may claim anything."""

    def integer(n):
        return f"I{n}\n".encode()

    def text(value):
        return b"X" + struct.pack("<I", len(value)) + value

    def integers(values):
        return b"(" + b"".join(integer(n) for n in values) + b"t"

    storage = b"(" + text(b"storage") + b"ctorch\nFloatStorage\n" + text(b"0")
    storage += text(b"cpu") + integer(count) + b"tQ"
    arguments = storage + integer(offset) + integers(size) + integers(stride)
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n("
    return b"\x80\x02}" + text(b"w") + rebuild + arguments + b"\x89}tRs."


def zip_file(path, data=b"\0" * 16, compression=zipfile.ZIP_STORED, **header):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", tensor_pickle(**header))
        archive.writestr("archive/data/0", data)


def legacy_file(path, data=b"\0" * 16, claimed=4, **header):
    magic, version, system = 0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}
    parts = [pickle.dumps(part, 2) for part in (magic, version, system)]
    parts += [tensor_pickle(**header), pickle.dumps(["0"], 2)]
    path.write_bytes(b"".join(parts) + struct.pack("<q", claimed) + data)


@pytest.mark.parametrize("write", [zip_file, legacy_file])
def test_the_crafted_files_are_read_when_they_do_not_lie(tmp_path, write):
    path = tmp_path / "fine.pth"
    write(path, np.arange(4, dtype="<f4").tobytes(), size=(3,), offset=1)
    np.testing.assert_array_equal(torch_files.read_torch(path)["w"], [1, 2, 3])


@pytest.mark.parametrize(
    "header",
    [
        {"size": (10**12,)},
        {"size": (10**6, 10**6), "stride": (0, 0)},
        {"size": (2, 2), "stride": (1, 2**62)},
        {"offset": 2},
        {"offset": -1},
        {"stride": (-1,)},
        {"size": (2, 2)},
        {"count": 10**15},
        {"count": -4},
        {"count": 3},
    ],
    ids=str,
)
@pytest.mark.parametrize("write", [zip_file, legacy_file])
def test_a_lying_header_is_an_error_and_allocates_nothing(tmp_path, write, header):
    path = tmp_path / "lying.pth"
    write(path, **header)
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"lying\.pth: "):
        torch_files.read_torch(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(b"\x80\x04\x8e" + struct.pack("<Q", 2**40), id="bytes"),
        pytest.param(b"\x80\x02}r" + struct.pack("<I", 2**31) + b".", id="memo"),
        pytest.param(b"\x80\x05\x96" + struct.pack("<Q", 2**31), id="bytearray"),
        pytest.param(b"\x80\x02X" + struct.pack("<I", 2**31), id="text"),
    ],
)
def test_an_opcode_that_claims_memory_gets_none(tmp_path, attack):
    path = tmp_path / "big.pth"
    path.write_bytes(attack)
    tracemalloc.start()
    # The second claims nothing but a far index, which is harmless and legal.
    with contextlib.suppress(ValueError):
        torch_files.read_torch(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20


def test_nested_references_are_visited_once(tmp_path):
    # Forty lists, each holding the one before twice: 2^40 leaves if walked naively.
    path = tmp_path / "laughs.pkl"
    bomb = []
    for _ in range(40):
        bomb = [bomb, bomb]
    path.write_bytes(pickle.dumps(bomb, 2))
    assert len(torch_files.read_torch(path)) == 2


def test_a_compressed_archive_is_refused(tmp_path):
    path = tmp_path / "bomb.pth"
    zip_file(path, b"\0" * 10**6, zipfile.ZIP_DEFLATED, count=250_000)
    with pytest.raises(ValueError, match="compressed"):
        torch_files.read_torch(path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "neither a torch checkpoint"),
        (b"<html>404</html>", "neither a torch checkpoint"),
        (b"PK\x03\x04" + b"junk" * 9, "BadZipFile"),
        (b"\0" * 257 + b"ustar" + b"\0" * 250, "tar archive"),
        (b"\x80\x02\x82\x01.", "extension"),
    ],
)
def test_foreign_files_are_one_error(tmp_path, content, why):
    path = tmp_path / "foreign.pth"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=why) as error:
        torch_files.read_torch(path)
    assert "\n" not in str(error.value)


def test_a_plain_zip_and_a_torchscript_program_are_named(tmp_path):
    path = tmp_path / "pictures.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("folder/a.txt", "a")
    with pytest.raises(ValueError, match=r"without data\.pkl"):
        torch_files.read_torch(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("folder/constants.pkl", "")
    with pytest.raises(ValueError, match="TorchScript"):
        torch_files.read_torch(path)


@pytest.mark.parametrize("cut", [0, 1, 3, 50, 400, 1000, 2000, -40, -1])
@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth.tar"])
def test_a_truncated_file_is_one_error(tmp_path, name, cut):
    path = tmp_path / name
    path.write_bytes((FIXTURES / name).read_bytes()[:cut])
    with pytest.raises(ValueError, match=name):
        torch_files.read_torch(path)
