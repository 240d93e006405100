"""Pretrained weights: found, verified, resumed, decoded."""

from __future__ import annotations

import functools
import http.server
import os
import tarfile
import threading

import numpy as np
import pytest

import testlib
from selfie.common import locks, paths
from selfie.common.download import Source, _fetch, checksum, download
from selfie.common.errors import SelfieError
from selfie.data import image
from selfie.net import caffe_net, variants, weights
from selfie.net.caffe_net import ScoringNet

PICTURES = {"chelsea.png": 285, "coffee.png": 967}  # ImageNet: Egyptian cat, espresso


@pytest.fixture()
def away_from_home(tmp_path, monkeypatch):
    """weights/ in a temporary folder, no mirror, and nothing to download from."""
    monkeypatch.setattr(paths, "WEIGHTS", tmp_path / "weights")
    monkeypatch.delenv("SELFIE_MIRROR", raising=False)
    return tmp_path


def test_squeezenet_decodes_into_a_net_that_sees(mirror, tmp_path, skimage_data):
    """Decoded weights put chelsea and coffee into their ImageNet classes: every layer is right, or this fails."""
    weights.decode_squeezenet(mirror("compressed_SqueezeNet.net"), tmp_path / "squeezenet.caffemodel")
    loaded = caffe_net.load(paths.PROTOTXT / "squeezenet" / "imagenet.prototxt", tmp_path / "squeezenet.caffemodel")
    pictures = np.stack([image.square(image.read(skimage_data / name)) for name in PICTURES])
    [prob] = ScoringNet(loaded, variants.get("squeezenet").preprocessing).forward(pictures)
    assert list(prob.reshape(2, 1000).argmax(1)) == list(PICTURES.values())


@pytest.mark.parametrize(
    "damage, words",
    [
        (lambda data: data[:-1], "too early"),
        (lambda data: data + b"x", "1 bytes are left over"),
        (lambda data: b"\xff" * 200, "too early"),
    ],
)
def test_a_damaged_squeezenet_is_refused(mirror, tmp_path, damage, words):
    """Not a byte may be missing or left over; nothing is written."""
    file = tmp_path / "damaged.net"
    file.write_bytes(damage(mirror("compressed_SqueezeNet.net").read_bytes()))
    with pytest.raises(SelfieError, match=words):
        weights.decode_squeezenet(file, tmp_path / "out.caffemodel")
    assert not (tmp_path / "out.caffemodel").exists()


def test_the_mirror_is_tried_first_and_checked(away_from_home, monkeypatch):
    """A file of the right name but the wrong content is removed and named."""
    (away_from_home / "mirror").mkdir()
    (away_from_home / "mirror" / "compressed_SqueezeNet.net").write_bytes(b"something else")
    monkeypatch.setenv("SELFIE_MIRROR", str(away_from_home / "mirror"))
    with pytest.raises(SelfieError, match="wrong checksum"):
        weights.obtain("squeezenet")
    assert not list((away_from_home / "weights").rglob("*.net"))


def test_offline_is_one_line_that_says_what_to_do(tmp_path):
    """No network, no mirror: the message names the way out."""
    with pytest.raises(SelfieError, match="set SELFIE_MIRROR"):
        _fetch("http://localhost:9/x.caffemodel", tmp_path / "never.part")
    testlib.assert_one_line_error(testlib.command("tools/fetch_weights.py", "nonsense"), "choose one of vgg16")


class Server(http.server.SimpleHTTPRequestHandler):
    """Serves a folder, honours 'Range: bytes=N-', and notes the ranges asked for."""

    asked: list = []  # noqa: RUF012 - one list for all requests of a test

    def do_GET(self):
        data = (paths.Path(self.directory) / self.path[1:]).read_bytes()
        start = int((self.headers.get("Range") or "bytes=0-")[6:-1])
        self.asked.append(start)
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        self.wfile.write(data[start:])

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture()
def server(tmp_path):
    """(base address, folder) of an HTTP server on this machine."""
    folder = tmp_path / "served"
    folder.mkdir()
    Server.asked.clear()
    with http.server.HTTPServer(("localhost", 0), functools.partial(Server, directory=str(folder))) as http_server:
        threading.Thread(target=http_server.serve_forever, daemon=True).start()
        yield f"http://localhost:{http_server.server_port}", folder
        http_server.shutdown()


def test_a_download_goes_on_where_it_broke_off(away_from_home, server):
    """What an earlier try fetched is not fetched again, and the whole is verified."""
    address, folder = server
    (folder / "w.caffemodel").write_bytes(bytes(range(256)) * 1000)
    target = away_from_home / "weights" / "w.caffemodel"
    target.parent.mkdir()
    target.with_name("w.caffemodel.part").write_bytes((folder / "w.caffemodel").read_bytes()[:1000])
    checksum = "sha256:" + paths.sha256(folder / "w.caffemodel")
    download(Source(f"{address}/w.caffemodel", checksum), target)
    assert target.read_bytes() == (folder / "w.caffemodel").read_bytes()
    assert Server.asked == [1000]
    download(Source(f"{address}/w.caffemodel", checksum), target)
    assert Server.asked == [1000], "what is there and right is not fetched again"


def test_nothing_is_seen_under_its_name_before_its_checksum_is_right(away_from_home, server):
    """A wrong file never gets its name, and one that is there stays until a right one comes."""
    address, folder = server
    (folder / "w.caffemodel").write_bytes(b"right")
    source = Source(f"{address}/w.caffemodel", "sha256:" + paths.sha256(folder / "w.caffemodel"))
    target = away_from_home / "weights" / "w.caffemodel"
    (folder / "w.caffemodel").write_bytes(b"wrong")
    target.parent.mkdir()
    target.write_bytes(b"damaged")
    with pytest.raises(SelfieError, match="wrong checksum"):
        download(source, target)
    assert {path.name: path.read_bytes() for path in target.parent.iterdir()} == {"w.caffemodel": b"damaged"}
    (folder / "w.caffemodel").write_bytes(b"right")
    download(source, target)
    assert {path.name: path.read_bytes() for path in target.parent.iterdir()} == {"w.caffemodel": b"right"}


def test_one_process_downloads_a_file_and_others_are_told_which(away_from_home, server):
    target = away_from_home / "weights" / "w.caffemodel"
    with locks.file(target), pytest.raises(SelfieError, match=f"at work in .*w.caffemodel: process {os.getpid()} "):
        download(Source(f"{server[0]}/w.caffemodel", "sha256:0"), target)
    assert not Server.asked


@pytest.fixture
def face(away_from_home, server, monkeypatch) -> str:
    """VGG-Face on a server; the checksum of its archive."""
    address, folder = server
    (away_from_home / "model").write_bytes(b"weights of faces")
    with tarfile.open(folder / "vgg_face_caffe.tar.gz", "w:gz") as tar:
        tar.add(away_from_home / "model", "vgg_face_caffe/VGG_FACE.caffemodel")
    monkeypatch.setitem(weights.PRETRAINED, "vgg_face", [Source(f"{address}/vgg_face_caffe.tar.gz")])
    return "sha256:" + paths.sha256(folder / "vgg_face_caffe.tar.gz")


def test_what_has_no_published_checksum_needs_one_or_a_word(face):
    """VGG-Face: nothing is even fetched before; a wrong checksum is refused; what was said is kept for run.json."""
    with pytest.raises(SelfieError, match="--unverified"):
        weights.obtain("vgg_face")
    assert not Server.asked
    with pytest.raises(SelfieError, match="wrong checksum"):
        weights.obtain("vgg_face", "sha256:" + 64 * "0")
    model = weights.obtain("vgg_face", unverified=True) / "VGG_FACE.caffemodel"
    assert model.read_bytes() == b"weights of faces" and weights.verified_by(model) == "unverified"
    weights.obtain("vgg_face", face)
    assert weights.verified_by(model) == "given" and weights.verified_by(model.with_name("other")) is None
    assert weights.obtain("vgg_face") == model.parent, "what is there is taken without a word"


def test_weights_are_checked_when_they_are_used(face):
    """Bytes that changed on the disk since are noticed, and fetching again mends them."""
    model = weights.obtain("vgg_face", face) / "VGG_FACE.caffemodel"
    assert weights.caffemodel("vgg_face") == model
    for damaged, content in ((model, "weights of places"), (model.parent / "checked.json", "[]")):
        damaged.write_text(content)
        with pytest.raises(SelfieError, match=r"vgg_face is damaged .*: run 'make weights VARIANT=vgg_face'"):
            weights.caffemodel("vgg_face")
        weights.obtain("vgg_face", face)
        assert weights.caffemodel("vgg_face").read_bytes() == b"weights of faces"
    (model.parent / "checked.json").unlink()
    with pytest.raises(SelfieError, match="not complete"):
        weights.caffemodel("vgg_face")


@pytest.mark.parametrize("text", ["", "sha256:12", "md4:" + 32 * "0", 64 * "g", "shake_128:" + 64 * "0"])
def test_a_checksum_must_be_one(text):
    with pytest.raises(SelfieError, match="is not a checksum"):
        checksum(text)
    assert checksum(64 * "A") == "sha256:" + 64 * "a" and checksum("md5:" + 32 * "0") == "md5:" + 32 * "0"


def test_all_weights_come_by_https():
    assert all(source.url.startswith("https://") for sources in weights.PRETRAINED.values() for source in sources)


def test_only_the_wanted_file_leaves_an_archive(tmp_path):
    """Members with paths that lead elsewhere stay where they are."""
    (tmp_path / "evil").write_bytes(b"evil")
    (tmp_path / "model").write_bytes(b"weights")
    with tarfile.open(tmp_path / "a.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "evil", "../../evil2")
        tar.add(tmp_path / "model", "folder/VGG_FACE.caffemodel")
    weights.extract(tmp_path / "a.tar.gz", "VGG_FACE.caffemodel", tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["VGG_FACE.caffemodel"]
    (tmp_path / "b.tar.gz").write_bytes(b"not a tar")
    with pytest.raises(SelfieError, match="not a readable tar"):
        weights.extract(tmp_path / "b.tar.gz", "x", tmp_path / "out")
