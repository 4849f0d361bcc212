"""Tests for jaxflow.io.download, against a server on the loopback."""

import errno
import fcntl
import hashlib
import io
import signal
import subprocess
import sys
import zipfile

import numpy as np
import pytest

from jaxflow.io import download
from tests.io.server import serving

CONTENT = np.random.default_rng(0).bytes(1_000_003)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server():
    with serving(CONTENT) as server:
        yield server


def test_fetches_once(tmp_path, server):
    path = tmp_path / "deep" / "net.pth"
    assert download.fetch(server.url, path, sha256=DIGEST) == path
    assert path.read_bytes() == CONTENT
    assert download.fetch(server.url, path, sha256=DIGEST) == path
    assert server.asked == [None]
    assert [each.name for each in path.parent.iterdir()] == ["net.pth"]
    assert download.sha256(path) == DIGEST


@pytest.mark.parametrize("sha256", [DIGEST, DIGEST[:8].upper(), ""])
def test_goes_on_where_it_was_interrupted(tmp_path, server, sha256):
    path, server.cut = tmp_path / "net.pth", 300_000
    kept = [0]
    for _ in range(2):
        with pytest.raises(OSError, match=r"the download of net\.pth failed"):
            download.fetch(server.url, path, sha256=sha256)
        assert not path.exists()
        kept.append((tmp_path / "net.pth.part").stat().st_size)
        assert kept[-1] > kept[-2] + 200_000
    server.cut = len(CONTENT)
    download.fetch(server.url, path, sha256=sha256)
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, f"bytes={kept[1]}-", f"bytes={kept[2]}-"]
    assert [each.name for each in tmp_path.iterdir()] == ["net.pth"]


@pytest.mark.parametrize("how", ["another version", "no ranges"])
def test_pieces_of_two_versions_are_never_joined(tmp_path, server, how):
    path, server.cut = tmp_path / "net.pth", 300_000
    with pytest.raises(OSError):
        download.fetch(server.url, path)
    server.content, server.cut = CONTENT[::-1], len(CONTENT)
    if how == "another version":
        server.tag = '"two"'
    else:
        server.ranges = False
    download.fetch(server.url, path)
    assert path.read_bytes() == CONTENT[::-1]


def test_without_a_version_it_goes_on_only_if_a_checksum_will_tell(tmp_path, server):
    server.tag = None
    for sha256 in ("", DIGEST):
        path, server.cut = tmp_path / f"net{len(sha256)}.pth", 300_000
        with pytest.raises(OSError):
            download.fetch(server.url, path, sha256=sha256)
        server.cut = len(CONTENT)
        download.fetch(server.url, path, sha256=sha256)
        assert path.read_bytes() == CONTENT
        assert (server.asked[-1] is not None) == bool(sha256)


def test_a_partial_file_that_is_too_long_begins_again(tmp_path, server):
    path = tmp_path / "net.pth"
    (tmp_path / "net.pth.part").write_bytes(CONTENT + b"x")
    with pytest.raises(OSError, match="call again"):
        download.fetch(server.url, path, sha256=DIGEST)
    download.fetch(server.url, path, sha256=DIGEST)
    assert path.read_bytes() == CONTENT


@pytest.mark.parametrize("sha256", ["0" * 64, "00000000"])
def test_what_is_not_the_published_file_is_not_kept(tmp_path, server, sha256):
    message = f"its SHA-256 is {DIGEST}, published is {sha256}"
    with pytest.raises(ValueError, match=message):
        download.fetch(server.url, tmp_path / "net.pth", sha256=sha256)
    assert list(tmp_path.iterdir()) == []


def test_no_network_and_no_such_file_are_one_line(tmp_path, server):
    path = tmp_path / "net.pth"
    with pytest.raises(OSError, match=r"net\.pth failed: 404") as error:
        download.fetch(server.url.replace("/net.pth", "/no"), path)
    assert "\n" not in str(error.value)
    server.shutdown()
    server.server_close()
    with pytest.raises(OSError, match=r"net\.pth failed: .*refused") as error:
        download.fetch(server.url, path)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300
    assert not path.exists()


def test_takes_a_file_out_of_an_archive(tmp_path, server):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("models/a.pth", b"weights")
    server.content = packed.getvalue()
    path = tmp_path / "a.pth"
    download.fetch(server.url, path, member="models/a.pth")
    assert path.read_bytes() == b"weights"
    other = tmp_path / "a2.pth"
    with pytest.raises(ValueError, match=r"does not hold models/b\.pth"):
        download.fetch(server.url, other, member="models/b.pth")
    assert not other.exists()


FETCH = (
    "import sys; from jaxflow.io import download; print('ready', flush=True); "
    "download.fetch(sys.argv[1], sys.argv[2], sha256=sys.argv[3])"
)


def process(server, path, sha256):
    command = [sys.executable, "-c", FETCH, server.url, str(path), sha256]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    started.stdout.readline()
    return started


@pytest.mark.parametrize("sha256", [DIGEST, ""])
def test_processes_that_want_one_file_fetch_it_once(tmp_path, server, sha256):
    path = tmp_path / "net.pth"
    server.pause = 0.02
    started = [process(server, path, sha256) for _ in range(3)]
    for each in started:
        assert each.communicate(timeout=120) and each.returncode == 0
    assert path.read_bytes() == CONTENT
    assert [each.name for each in tmp_path.iterdir()] == ["net.pth"]
    assert server.asked == [None]


def test_a_process_goes_on_with_what_a_killed_one_has(tmp_path, server):
    path, part = tmp_path / "net.pth", tmp_path / "net.pth.part"
    server.pause = 0.3
    first = process(server, path, DIGEST)
    while not part.exists() or part.stat().st_size == 0:
        assert first.poll() is None
        server.sent.wait(0.05)
    second = process(server, path, DIGEST)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    server.pause = 0
    assert second.communicate(timeout=120) and second.returncode == 0
    assert path.read_bytes() == CONTENT
    assert not part.exists()
    assert server.asked[0] is None and server.asked[1].startswith("bytes=")


def test_without_locks_each_has_a_partial_file_of_its_own(
    tmp_path, server, monkeypatch
):
    def refuse(*_):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    path, server.cut = tmp_path / "net.pth", 300_000
    with pytest.raises(OSError, match="failed"):
        download.fetch(server.url, path, sha256=DIGEST)
    assert not path.exists()
    server.cut = len(CONTENT)
    download.fetch(server.url, path, sha256=DIGEST)
    assert path.read_bytes() == CONTENT
    assert server.asked == [None, None]
    assert [each.name for each in tmp_path.iterdir()] == ["net.pth"]


def test_little_is_lost_when_a_short_transfer_breaks(tmp_path, server):
    path, server.cut = tmp_path / "net.pth", 90_000
    with pytest.raises(OSError, match="failed"):
        download.fetch(server.url, path, sha256=DIGEST)
    assert (tmp_path / "net.pth.part").stat().st_size > 80_000
    server.cut = len(CONTENT)
    download.fetch(server.url, path, sha256=DIGEST)
    assert path.read_bytes() == CONTENT


def test_a_folder_that_is_a_file_is_one_line(tmp_path, server):
    (tmp_path / "cache").write_text("no folder")
    with pytest.raises(OSError, match=r"must be a folder, but .*cache is a file"):
        download.fetch(server.url, tmp_path / "cache/deep/net.pth")
    assert server.asked == []
