"""The guarded fetcher brings pictures, and nothing that an address or a server can do makes it do anything else."""

from __future__ import annotations

import gzip
import io
import itertools
import os
import socket
import ssl
import struct
import subprocess
import threading
import time
import zlib
from importlib.util import find_spec

import pytest
from PIL import Image
from rude import Rude, answer, picture

import testlib
from selfie.common.errors import SelfieError
from selfie.gather import addresses, transport
from selfie.gather.fetch import Fetched, FetchError, Limits, fetch

LOOPBACK = ("127.0.0.0/8", "::1/128")


def limits(server: Rude, **fields) -> Limits:
    """Limits that allow this server on loopback."""
    return Limits(**{"ports": frozenset({80, 443, server.port}), "allow_networks": LOOPBACK, "seconds": 5, **fields})


def needs_idna() -> None:
    if find_spec("idna") is None:
        testlib.skip("gather", "idna is not installed")


def refused(url: str, within: Limits | None = None) -> FetchError:
    """The fetch is refused with an error that a stranger may read."""
    with pytest.raises(FetchError) as caught:
        fetch(url, within or Limits(seconds=5))
    assert isinstance(caught.value, SelfieError)
    message = str(caught.value)
    assert message and "\n" not in message and not any(word in message for word in ("127.", "Errno", "Error", "None"))
    return caught.value


def resolving(monkeypatch, *answers: list[str] | Exception) -> list[str]:
    """Let the system's resolver give these answers, one a call, the last for ever; returns the names asked for."""
    asked, left = [], itertools.chain(answers, itertools.repeat(answers[-1]))
    real = socket.getaddrinfo

    def resolver(host, port, *rest, **options):
        if addresses.as_literal(host):
            return real(host, port, *rest, **options)
        asked.append(host)
        found = next(left)
        if isinstance(found, Exception):
            raise found
        family = {one: socket.AF_INET6 if ":" in one else socket.AF_INET for one in found}
        return [(family[one], socket.SOCK_STREAM, 6, "", (one, port)) for one in found]

    monkeypatch.setattr(socket, "getaddrinfo", resolver)
    return asked


@pytest.fixture(autouse=True)
def no_connection_leaves(monkeypatch):
    """A test that connects to anything but loopback fails."""
    real = socket.socket.connect

    def connect(self, address):
        assert address[0] in ("127.0.0.1", "127.0.0.2", "::1"), f"a connection to {address}"
        return real(self, address)

    monkeypatch.setattr(socket.socket, "connect", connect)


# --- what is brought -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "suffix, kind", [(".jpg", "jpeg"), (".png", "png"), (".webp", "webp"), (".bmp", "bmp"), (".tiff", "tiff")]
)
def test_a_picture_is_brought(suffix, kind):
    """By its first bytes, whatever Content-Type says."""
    data = picture(suffix)
    with Rude(answer(data, Content_Type="text/html")) as server:
        got = fetch(f"{server.url}/a%20b.jpg?x=1&y=%2F#part", limits(server))
    assert got == Fetched(f"{server.url}/a%20b.jpg?x=1&y=%2F", data, kind, 40, 30)


def test_the_request_is_bare(monkeypatch):
    """No cookie, no credentials, no referrer, no proxy of the environment; the name that was asked for as Host."""
    monkeypatch.setenv("http_proxy", "http://127.0.0.2:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.2:9")
    resolving(monkeypatch, ["127.0.0.1"])
    cookie = answer(b"", "302 Found", Location="/two", Set_Cookie="a=b; Path=/")

    def script(peer, request):
        peer.sendall(answer(picture()) if b"/two" in request else cookie)

    with Rude(script) as server:
        fetch(f"http://pictures.example:{server.port}/ä ".strip() + "?ö", limits(server, agent="me (me@example.org)"))
    for request, path in zip(server.requests, ("/%C3%A4?%C3%B6", "/two")):
        assert request.decode().splitlines() == [
            f"GET {path} HTTP/1.1",
            f"Host: pictures.example:{server.port}",
            "User-Agent: me (me@example.org)",
            "Accept: image/jpeg, image/png, image/webp, image/*;q=0.8",
            "Accept-Encoding: identity",
            "Connection: close",
            "",
        ]


def test_over_ipv6():
    with Rude(answer(picture()), host="::1") as server:
        assert fetch(server.url, limits(server)).kind == "jpeg"


def test_the_next_address_is_tried_where_one_does_not_answer(monkeypatch):
    with Rude(answer(picture())) as server:
        resolving(monkeypatch, ["127.0.0.2", "127.0.0.1"])
        assert fetch(f"http://two.example:{server.port}/", limits(server)).kind == "jpeg"


@pytest.mark.parametrize("body", ["chunked", "to the end"])
def test_content_without_a_length_is_brought(body):
    data = picture(".png", 300, 200)
    chunks = b"".join(f"{len(part):x};ext=1\r\n".encode() + part + b"\r\n" for part in (data[:7], data[7:]))
    raw = answer(b"", Transfer_Encoding="chunked", Content_Length=None) + chunks + b"0\r\nTrailer: x\r\n\r\n"
    with Rude(raw if body == "chunked" else answer(b"", Content_Length=None) + data) as server:
        assert fetch(server.url, limits(server)).data == data


def test_three_redirects_are_followed():
    def script(peer, request):
        hop = int(request.split()[1].strip(b"/"))
        status = ("301 Moved", "307 Temporary", "308 Permanent")[hop % 3]
        peer.sendall(answer(b"", status, Location=f"../{hop + 1}#x") if hop < 3 else answer(picture()))

    with Rude(script) as server:
        assert fetch(f"{server.url}/0", limits(server)).url == f"{server.url}/3"
        assert refused(f"{server.url}/0", limits(server, redirects=2)).reason == "redirects"


# --- addresses that are refused before anything is asked -------------------------------------------------------------

ATTACKS = {
    "private": """
        http://127.0.0.1/ http://127.0.0.1./ http://127.255.255.254/ http://0.0.0.0/ http://0.1.2.3/ http://10.0.0.1/
        http://172.16.0.1/ http://172.31.255.255/ http://192.168.1.1/ http://169.254.169.254/latest/meta-data/
        http://100.64.0.1/ http://100.127.255.255/ http://192.0.0.192/ http://198.18.0.1/ http://192.0.2.1/
        http://198.51.100.7/ http://203.0.113.9/ http://192.88.99.1/ http://224.0.0.1/ http://239.255.255.250/
        http://240.0.0.1/ http://255.255.255.255/ http://１２７.０.０.１/ http://①②⑦.⓪.⓪.①/ http://127。0。0。1/
        http://[::1]/ http://[::]/ http://[0:0:0:0:0:0:0:1]/ http://[::ffff:127.0.0.1]/ http://[::ffff:7f00:1]/
        http://[::ffff:8.8.8.8]/ http://[::127.0.0.1]/ http://[::ffff:0:127.0.0.1]/ http://[64:ff9b::7f00:1]/
        http://[64:ff9b::8.8.8.8]/ http://[64:ff9b:1::a00:1]/ http://[2002:7f00:1::]/ http://[2002:808:808::1]/
        http://[2001:0:4136:e378:8000:63bf:3fff:fdd2]/ http://[2001:2::1]/ http://[2001:20::1]/ http://[2001:db8::1]/
        http://[3fff::1]/ http://[fc00::1]/ http://[fd00:ec2::254]/ http://[fe80::1]/ http://[fec0::1]/ http://[ff02::1]/
        http://[100::1]/ http://[5f00::1]/ http://[4000::1]/
        """,
    "address": """
        http://2130706433/ http://0x7f000001/ http://0x7f.1/ http://0177.0.0.1/ http://017700000001/ http://127.1/
        http://127.0.1/ http://127.0.0.0x1/ http://127.0.0.01/ http://0/ http://0x/ http://134744072/ http://8.8.2056/
        http://256.1.1.1/ http://1.2.3.4.5/ http://example.com.1/ http://[fe80::1%25lo]/ http://[fe80::1%lo]/
        http://[::1/ http://::1]/ http://::1/ http://[v1.a]/ http://x[::1]/ http://[::1]x/ http://[]/ http://a..example/
        http://example.org../ http://.example.org/ http://-a.example/ http://%6c%6f%63alhost/ http://a%00.example/
        http://exa_mple!.org/ http:///a http:/127.0.0.1/ http:127.0.0.1 http:// http://a:port/ http://a:-1/
        http://a:65536/ http://127.0.0.1\\@example.org/ http://example.org\\.evil.example/ http://ex\tample.org/
        http://example.org/\r\nX:1 http://example.org/\x00 http://example.org/\x85 http://exam\u00adple\u200b..org/
        http://a℀.example/ http://例え\u3002\u3002テスト/
        """,
    "scheme": """
        file:///etc/passwd ftp://example.org/a.jpg gopher://127.0.0.1:6379/_INFO data:image/png;base64,iVBORw0KGgo=
        dict://127.0.0.1:11211/ ldap://127.0.0.1/ javascript:alert(1) jar:http://example.org/!/ ws://example.org/
        unix:/run/docker.sock //127.0.0.1/ 127.0.0.1 /etc/passwd about:blank url:http://127.0.0.1/
        """,
    "credentials": "http://me@example.org/ http://me:it@example.org/ http://8.8.8.8@127.0.0.1/ http://@127.0.0.1/",
    "port": """
        http://example.org:22/ http://example.org:8080/ https://example.org:6379/ http://8.8.8.8:0/
        http://[2606:4700::1111]:25/ http://example.org:81/
        """,
}
TABLE = [(reason, url.strip("\n")) for reason, urls in ATTACKS.items() for url in urls.split(" ") if url.strip("\n")]


@pytest.mark.parametrize("reason, url", TABLE, ids=lambda text: ascii(text)[1:-1])
def test_an_address_of_attack_is_refused(monkeypatch, reason, url):
    """And neither a name is resolved nor a socket opened for it."""
    if not url.isascii():
        needs_idna()
    asked = resolving(monkeypatch, ["127.0.0.1"])
    monkeypatch.setattr(socket, "create_connection", lambda *a, **o: pytest.fail("it connected"))
    assert refused(url).reason == reason
    assert not asked


def test_the_longest_address():
    assert refused("http://example.org/" + "a" * 3000).reason == "address"
    assert refused(f"http://{'a' * 64}.example/").reason == "address"
    assert refused(f"http://{'a.' * 127}example/").reason == "address"


@pytest.mark.parametrize(
    "text", ["8.8.8.8", "1.1.1.1", "192.0.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "2001:4860:4860::8888"]
)
def test_public_addresses_are_public(text):
    """The lists refuse nothing beside what they name."""
    assert addresses.is_public(addresses.as_literal(text))


def test_a_name_of_another_script_is_asked_for_in_its_own_ascii(monkeypatch):
    """By IDNA 2008, as browsers do: straße is not strasse."""
    needs_idna()
    asked = resolving(monkeypatch, OSError("no such host"))
    assert refused("http://Straße.例え。テスト./").reason == "host"
    assert asked == ["xn--strae-oqa.xn--r8jz45g.xn--zckzah"]


# --- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "found",
    [
        ["127.0.0.1"],
        ["8.8.8.8", "10.0.0.1"],
        ["2606:4700::1111", "::1"],
        ["fe80::1%eth0"],
        ["::ffff:169.254.169.254"],
        ["64:ff9b::a00:1"],
    ],
    ids=" ".join,
)
def test_every_address_of_a_name_has_to_be_public(monkeypatch, found):
    resolving(monkeypatch, found)
    assert refused("http://inside.example/").reason == "private"


def test_localhost_by_its_real_name():
    assert refused("http://localhost/").reason == "private"
    assert refused("http://LOCALHOST./").reason == "private"


def test_a_name_is_resolved_once_and_connected_to_by_number(monkeypatch):
    """DNS rebinding: the second answer would be another host; nobody asks for it."""
    asked = resolving(monkeypatch, ["127.0.0.1"], ["10.0.0.1"])
    with Rude(answer(picture())) as server:
        fetch(f"http://rebinds.example:{server.port}/", limits(server))
    assert asked == ["rebinds.example"]


def test_a_redirect_to_the_same_name_is_checked_anew(monkeypatch):
    asked = resolving(monkeypatch, ["127.0.0.1"], ["10.0.0.1"])
    with Rude(answer(b"", "302 Found", Location="/again")) as server:
        assert refused(f"http://rebinds.example:{server.port}/", limits(server)).reason == "private"
    assert len(asked) == 2 and len(server.requests) == 1


def test_a_name_that_does_not_resolve(monkeypatch):
    resolving(monkeypatch, socket.gaierror(-2, "Name or service not known"))
    assert refused("http://nowhere.example/").reason == "host"
    resolving(monkeypatch, [])
    assert refused("http://nowhere.example/").reason == "host"


def test_a_resolver_that_hangs(monkeypatch):
    over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **o: over.wait(20) and [])
    start = time.monotonic()
    assert refused("http://slow.example/", Limits(seconds=0.3)).reason == "time"
    over.set()
    assert time.monotonic() - start < 3


# --- redirects -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "to, reason",
    [
        ("file:///etc/passwd", "scheme"),
        ("ftp://example.org/a.jpg", "scheme"),
        ("data:image/png;base64,iVBORw0KGgo=", "scheme"),
        ("gopher://127.0.0.1:6379/_FLUSHALL", "scheme"),
        ("http://10.0.0.1/", "private"),
        ("//169.254.169.254/latest/meta-data/", "private"),
        ("http://[::ffff:10.0.0.1]/", "private"),
        ("http://2130706433/", "address"),
        ("http://[::1/", "address"),
        ("http://me:it@127.0.0.1/", "credentials"),
        ("http://127.0.0.1:22/", "port"),
        ("http://127.0.0.1/\x01", "address"),
        ("/", "redirects"),
    ],
)
def test_a_redirect_is_checked_as_the_first_address_is(to, reason):
    with Rude(answer(b"", "302 Found", Location=to)) as server:
        assert refused(server.url, limits(server)).reason == reason
        assert len(server.requests) == (4 if reason == "redirects" else 1)


def test_a_redirect_to_nowhere_is_no_picture():
    with Rude(answer(picture(), "302 Found")) as server:
        error = refused(server.url, limits(server))
    assert (error.reason, error.status) == ("status", 302)


# --- answers ---------------------------------------------------------------------------------------------------------

BOMB = gzip.compress(bytes(50_000_000))
CHUNKED = {"Transfer_Encoding": "chunked", "Content_Length": None}


def _png_bomb() -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 9000, 9000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100))) + chunk(b"IEND", b"")


def _gif_bomb() -> bytes:
    file = io.BytesIO()
    Image.new("P", (8, 8)).save(file, "GIF")
    return file.getvalue()[:6] + struct.pack("<HH", 65_535, 65_535) + file.getvalue()[10:]


ANSWERS = {
    "no bytes": (answer(b""), "empty"),
    "a page": (answer(b"<html>", Content_Type="image/jpeg"), "not-a-picture"),
    "svg": (answer(b"<svg xmlns='http://www.w3.org/2000/svg'/>", Content_Type="image/svg+xml"), "not-a-picture"),
    "a script": (answer(b"#!/bin/sh\n"), "not-a-picture"),
    "a gzip bomb": (answer(BOMB, Content_Encoding="gzip"), "not-a-picture"),
    "a gzip of a picture": (answer(gzip.compress(picture()), Content_Encoding="gzip"), "not-a-picture"),
    "RIFF, but a sound": (answer(b"RIFF\x24\0\0\0WAVEfmt " + bytes(40)), "not-a-picture"),
    "the beginning of a PNG": (answer(picture(".png")[:20]), "broken"),
    "a pixel bomb, PNG": (answer(_png_bomb()), "pixels"),
    "a pixel bomb, GIF": (answer(_gif_bomb()), "pixels"),
    "length said to be too large": (answer(picture(), Content_Length="10000001"), "size"),
    "length said to be huge": (answer(picture(), Content_Length="9" * 30), "size"),
    "length said to be more": (answer(picture(), Content_Length="9999"), "cut-off"),
    "length said to be negative": (answer(bytes(10_000_001), Content_Length="-1"), "size"),
    "length that is none, too large": (answer(bytes(10_000_001), Content_Length="many"), "size"),
    "no length, too large": (answer(b"", Content_Length=None) + bytes(10_000_001), "size"),
    "chunk, too large": (answer(b"", **CHUNKED) + b"989681\r\n" + bytes(10_000_001) + b"\r\n0\r\n\r\n", "size"),
    "chunk of garbage": (answer(b"", **CHUNKED) + b"zz\r\n" + picture(), "cut-off"),
    "chunk of negative size": (answer(b"", **CHUNKED) + b"-5\r\n" + picture(), "protocol or cut-off"),
    "chunk that breaks off": (answer(b"", **CHUNKED) + b"ffff\r\n" + picture(), "cut-off"),
    "chunk's size without end": (answer(b"", **CHUNKED) + b"0" * 100_000, "protocol"),
    "endless header": (b"HTTP/1.1 200 OK\r\nA: " + b"a" * 100_000, "protocol"),
    "headers without end": (b"HTTP/1.1 200 OK\r\n" + b"A: a\r\n" * 10_000, "protocol"),
    "endless status": (b"HTTP/1.1 " + b"2" * 100_000, "protocol"),
    "not HTTP": (b"SSH-2.0-OpenSSH_9.2\r\n", "protocol"),
    "HTTP/0.9": (picture(), "protocol"),
    "silence": (b"", "unreachable"),
    "switching protocols": (answer(b"", "101 Switching Protocols"), "status"),
    "nothing new": (answer(b"", "304 Not Modified"), "status"),
    "not found": (answer(picture(), "404 Not Found"), "status"),
    "part": (answer(picture(), "206 Partial Content"), "status"),
}


@pytest.mark.parametrize("raw, reason", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_that_is_no_picture(raw, reason):
    with Rude(raw) as server:
        assert refused(server.url, limits(server, seconds=20)).reason in reason.split(" or ")


def test_the_largest_content_is_brought():
    data = picture() + bytes(1000)
    with Rude(answer(data)) as server:
        assert fetch(server.url, limits(server, bytes=len(data))).data == data
        assert refused(server.url, limits(server, bytes=len(data) - 1)).reason == "size"


def test_no_more_is_read_than_the_limit():
    """Of a stream without end; what the kernels have under way comes on top."""
    sent = 0

    def script(peer, request):
        nonlocal sent
        peer.sendall(answer(b"", Content_Length=None))
        while True:
            sent += peer.send(bytes(1 << 16))

    with Rude(script) as server:
        assert refused(server.url, limits(server, bytes=1_000_000)).reason == "size"
        testlib.wait_until(lambda: sent)
    assert sent < 20_000_000


def test_waiting_is_told():
    with Rude(answer(b"", "429 Too Many Requests", Retry_After="17")) as server:
        error = refused(server.url, limits(server))
    assert (error.reason, error.status, error.headers["Retry-After"]) == ("status", 429, "17")


def _drip(*parts: bytes):
    """A script that sends the parts in turn for ever, a byte now and then."""

    def script(peer, request):
        peer.sendall(parts[0])
        for byte in itertools.cycle(parts[1]):
            peer.sendall(bytes([byte]))
            time.sleep(0.02)

    return script


DRIPS = {
    "a silent server": lambda peer, request: time.sleep(3),
    "status line": _drip(b"", b"HTTP/1.1"),
    "headers": _drip(b"HTTP/1.1 200 OK\r\n", b"A"),
    "100 Continue": _drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "content": _drip(answer(b"\xff\xd8", Content_Length="5000000"), b"x"),
    "content without a length": _drip(answer(b"\xff\xd8", Content_Length=None), b"x"),
    "chunks": _drip(answer(b"", **CHUNKED), b"1\r\nx\r\n"),
    "trailers": _drip(answer(b"", **CHUNKED) + b"0\r\n", b"A: a\r\n"),
}


@pytest.mark.parametrize("script", DRIPS.values(), ids=DRIPS)
def test_a_slow_drip_ends_with_the_time(script):
    """However many bytes have come by then, and in whichever part of the answer."""
    with Rude(script) as server:
        start = time.monotonic()
        assert refused(server.url, limits(server, seconds=0.4)).reason == "time"
        assert 0.3 < time.monotonic() - start < 2.5


def test_redirects_share_one_time():
    def script(peer, request):
        time.sleep(0.3)
        peer.sendall(answer(b"", "302 Found", Location="/"))

    with Rude(script) as server:
        assert refused(server.url, limits(server, seconds=0.5, redirects=9)).reason == "time"
        assert len(server.requests) <= 2


def test_nothing_listens():
    with Rude(b"") as server:
        pass
    assert refused(server.url, limits(server)).reason == "unreachable"


def test_nothing_is_left_open():
    """Neither threads nor descriptors, after every kind of end."""
    with Rude(answer(picture())) as good, Rude(_drip(b"HTTP/1.1 200 OK\r\n", b"A")) as slow:
        fetch(good.url, limits(good))
        threads, files = threading.active_count(), len(os.listdir("/proc/self/fd"))
        for _ in range(5):
            fetch(good.url, limits(good))
            refused(slow.url, limits(slow, seconds=0.1))
        testlib.wait_until(lambda: threading.active_count() <= threads, 10)
        testlib.wait_until(lambda: len(os.listdir("/proc/self/fd")) <= files, 10)


# --- a caller's own rules --------------------------------------------------------------------------------------------


def test_a_callers_rules_are_asked_at_each_hop_and_before_the_content():
    asked = []

    def answered(url, headers):
        raise FetchError("robots", headers["X-Robots-Tag"])

    def script(peer, request):
        first = request.startswith(b"GET / ")
        peer.sendall(answer(b"", "302 Found", Location="/two") if first else answer(b"", X_Robots_Tag="noai"))

    with Rude(script) as server, pytest.raises(FetchError, match="noai"):
        fetch(server.url, limits(server), transport.Rules(asked.append, answered))
    assert asked == [f"{server.url}/", f"{server.url}/two"]


# --- TLS -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """(certificate, key) for pictures.example, signed by itself."""
    folder = tmp_path_factory.mktemp("tls")
    files = folder / "cert.pem", folder / "key.pem"
    request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=pictures.example"
    name = ["-addext", "subjectAltName=DNS:pictures.example"]
    command = ["openssl", *request.split(), *name, "-out", files[0], "-keyout", files[1]]
    subprocess.run(command, check=True, capture_output=True)
    return files


@pytest.fixture
def secure(certificate, monkeypatch):
    """A server's TLS whose certificate the client trusts; .names are the server names that clients sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    names = []
    context.sni_callback = lambda _socket, name, _context: names.append(name)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    transport._tls.cache_clear()
    yield context, names
    transport._tls.cache_clear()


def test_the_certificate_is_checked_for_the_name_not_for_the_number(secure, monkeypatch):
    context, names = secure
    resolving(monkeypatch, ["127.0.0.1"])
    with Rude(answer(picture()), context) as server:
        assert fetch(f"https://pictures.example.:{server.port}/", limits(server)).kind == "jpeg"
        assert refused(f"https://other.example:{server.port}/", limits(server)).reason == "tls"
        assert refused(server.url, limits(server)).reason == "tls"
    assert names == ["pictures.example", "other.example", None]
    assert [request.splitlines()[1].decode() for request in server.requests] == [
        f"Host: pictures.example:{server.port}"
    ]


def test_a_certificate_of_nobody(secure, monkeypatch):
    monkeypatch.delenv("SSL_CERT_FILE")
    transport._tls.cache_clear()
    resolving(monkeypatch, ["127.0.0.1"])
    with Rude(answer(picture()), secure[0]) as server:
        assert refused(f"https://pictures.example:{server.port}/", limits(server)).reason == "tls"


def test_a_handshake_that_never_ends(secure):
    """A server that takes the connection, listens, and says nothing."""
    with Rude(b"") as server:
        url = server.url.replace("http:", "https:")
        assert refused(url, limits(server, seconds=0.4)).reason == "time"
