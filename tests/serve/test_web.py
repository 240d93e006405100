"""The server from outside: scores, refusals, headers, no traces, and how it begins and ends."""

from __future__ import annotations

import base64
import contextlib
import gzip
import hashlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path

import pytest

import testlib
from selfie.runs import score

if find_spec("fastapi") is None or find_spec("requests") is None:
    testlib.skip("serve", "pip install -r requirements-dev.txt", whole_module=True)

import requests
from servers import application, serving

from selfie.serve.allowance import Allowance
from selfie.serve.intake import LARGEST_PICTURE, Intake

MULTIPART = "multipart/form-data; boundary=x"


def post(address: str, data: bytes, name: str = "selfie.png", route: str = "score", **options) -> requests.Response:
    return requests.post(address + route, files={"picture": (name, data)}, timeout=60, **options)


def assert_refused(answer: requests.Response, status: int, *words: str) -> None:
    """The status, and one line of JSON that says why."""
    error = answer.json()["error"]
    assert answer.status_code == status, (answer.status_code, error)
    assert error and "\n" not in error and all(word in error for word in words), error


# --- scores ----------------------------------------------------------------------------------------------------------


def test_an_upload_scores_as_the_command_does(server, tiny_run, files):
    """The same object as `tools/score.py --json` prints, with the file's own name."""
    (wanted,) = score.score(tiny_run, [str(files[0])])
    answer = post(server.address, files[0].read_bytes(), "mine ä.png")
    assert answer.status_code == 200
    found = answer.json()
    assert list(found) == ["path", "score", "percentile", "error"] and found["path"] == "mine ä.png"
    assert found["score"] == pytest.approx(wanted.score, abs=1e-6) and found["error"] is None
    assert found["percentile"] == pytest.approx(wanted.percentile)


def test_many_at_once_are_batched_and_each_gets_its_own(server, tiny_run, files):
    """32 clients; the metrics tell that batches had more than one picture."""
    wanted = [one.score for one in score.score(tiny_run, [str(path) for path in files])]
    with ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda path: post(server.address, path.read_bytes()), files * 4))
    assert [one.json()["score"] for one in answers] == pytest.approx(wanted * 4, abs=1e-6)
    metrics = requests.get(server.address + "metrics").text
    count, total = (
        float(re.search(rf"^selfie_batch_pictures_{name} (.*)$", metrics, re.M)[1]) for name in ("count", "sum")
    )
    assert total >= len(answers) and total / count > 1.5
    assert 'selfie_requests_total{route="/score",status="200"}' in metrics and "\nselfie_ready 1.0" in metrics


def test_an_address_scores_as_its_picture_does(scorer, tiny_run, files, loopback):
    """What cannot be fetched is told in the fetcher's words."""
    intake, there = loopback(files[0].parent)
    with application(scorer, intake=intake) as address:
        answer = requests.post(address + "score", json={"address": there + files[0].name})
        (wanted,) = score.score(tiny_run, [str(files[0])])
        assert answer.json()["path"] == there + files[0].name
        assert answer.json()["score"] == pytest.approx(wanted.score, abs=1e-6)
        assert_refused(requests.post(address + "score", json={"address": there + "no.png"}), 422, "404")


@pytest.mark.parametrize(
    "address",
    [
        *("http://127.0.0.1/a.png", "http://localhost/", "http://[::1]/", "http://0x7f.1/", "http://2130706433/"),
        *("http://169.254.169.254/latest/meta-data/", "http://[::ffff:10.0.0.1]/", "http://100.64.0.1/"),
        *("file:///etc/passwd", "gopher://example.org/", "http://user:secret@example.org/", "http://example.org:22/"),
        *(
            "data:image/png;base64,eA==",
            "javascript:alert(1)",
            "//example.org/a.png",
            "not an address",
            "http://",
            "\0",
        ),
    ],
)
def test_an_address_of_attack_is_refused(server, address):
    """The guarded fetcher stands behind the door."""
    assert_refused(requests.post(server.address + "score", json={"address": address}), 422)


def test_an_explanation_follows_the_score(web, tiny_run, files):
    """First a line with the score, then one with the best crop, which is at least as good, and what was measured."""
    with serving(tiny_run.folder) as running:
        answer = post(running.address, files[0].read_bytes(), route="explain?preview=true", stream=True)
        assert answer.headers["content-type"].startswith("application/x-ndjson")
        scored, found = (json.loads(line) for line in answer.iter_lines())
        assert scored == post(running.address, files[0].read_bytes()).json()
        assert found["error"] is None and found["crop"]["score"] >= scored["score"] - 1e-6
        assert all(0 <= found["crop"][side] <= 1 for side in ("left", "top", "width", "height"))
        assert found["measured"]["brightness"] == pytest.approx(0.35, abs=0.2)
        assert found["influences"] == [] and found["selfies"] == 0, "this run has no measured selfies"
        assert base64.b64decode(found["preview"].partition("base64,")[2]).startswith(b"\xff\xd8")
        assert_refused(post(running.address, b"GIF8 nonsense", route="explain"), 422, "broken")


# --- refusals --------------------------------------------------------------------------------------------------------


def form(*parts: tuple[str, bytes]) -> bytes:
    """A multipart body; each part is what stands behind `form-data; `, and the content."""
    head = "Content-Disposition: form-data; {}\r\nContent-Type: image/png\r\n\r\n"
    return b"".join(b"--x\r\n" + head.format(name).encode() + data + b"\r\n" for name, data in parts) + b"--x--\r\n"


FILE = 'name="picture"; filename="a.png"'


@pytest.mark.parametrize(
    "status, kind, body",
    [
        (415, None, b"x"),
        (415, "image/png", b"x"),
        (415, "text/plain", b'{"address": "https://example.org/"}'),
        (415, "application/x-www-form-urlencoded", b"address=https://example.org/"),
        *((400, "application/json", body) for body in (b"", b"nonsense", b"\xff", b"NaN", b"[" * 99_999, b'{"a":')),
        *(
            (422, "application/json", json.dumps(body).encode())
            for body in (None, [], 7, "https://example.org/", {}, {"address": 7}, {"address": ""}, {"url": "x"},
                         {"address": "https://example.org/" + "a" * 3000}, {"address": "https://x.org/", "more": 1})
        ),
        *((400, kind, b"x") for kind in ("multipart/form-data", "multipart/form-data; boundary=", MULTIPART)),
        (422, MULTIPART, form((FILE, b"x"))[:-20]),
        (400, MULTIPART, form((FILE, b"x"), (FILE, b"x"))),
        (400, MULTIPART, form(("filename=a", b"x"))),
        *((422, MULTIPART, form(part)) for part in (('name="picture"', b"x"), ('name="other"; filename="a"', b"x"))),
        *((422, MULTIPART, form(*parts)) for parts in ([], [(FILE, b"x"), ('name="more"', b"x")])),
        *((422, MULTIPART, form((FILE, data))) for data in (b"", b"x", b"\xff\xd8\xff", b"GIF89a", b"\x89PNG\r\n")),
    ],
)  # fmt: skip
@pytest.mark.parametrize("route", ["score", "explain"])
def test_what_is_no_picture_is_refused(server, route, status, kind, body):
    """With a status that says it is the client's fault, and a line that says why."""
    headers = {"Content-Type": kind} if kind else {}
    assert_refused(requests.post(server.address + route, body, headers=headers), status)


def test_too_much_is_refused_before_it_is_read(server):
    """By its length, by counting where none is told, and by the size of the picture alone; compressed, not at all."""
    body = form((FILE, bytes(LARGEST_PICTURE + 1)))
    headers = {"Content-Type": MULTIPART}
    assert_refused(requests.post(server.address + "score", body, headers=headers), 413, "10 MB")
    with socket.create_connection(("127.0.0.1", server.port)) as peer:
        peer.sendall(b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999999\r\n\r\n")
        assert b" 413 " in peer.recv(1 << 16)
    blocks = (bytes(1 << 20) for _ in range(100))
    with contextlib.suppress(requests.ConnectionError):  # refused while we were still sending
        assert_refused(requests.post(server.address + "score", blocks, headers=headers), 413)
    packed = gzip.compress(form((FILE, b"x")))
    answer = requests.post(server.address + "score", packed, headers={**headers, "Content-Encoding": "gzip"})
    assert_refused(answer, 415, "compressed")


def test_unknown_addresses_and_methods(server):
    """404 and 405 in JSON, too; documentation that would need a CDN is not there."""
    for route, status in (("nope", 404), ("docs", 404), ("redoc", 404), ("score", 405), ("v2/models/no", 404)):
        assert_refused(requests.get(server.address + route), status)


def test_a_client_has_an_allowance(scorer, files):
    """Then 429, with the time to wait; the protocol takes as many as it has pictures."""
    data = files[0].read_bytes()
    with application(scorer, allowance=Allowance(per_minute=6, burst=3)) as address:
        assert [post(address, data).status_code for _ in range(4)] == [200, 200, 200, 429]
        refused = post(address, data)
        assert_refused(refused, 429)
        assert 5 <= int(refused.headers["retry-after"]) <= 10
        tensor = {"name": "picture", "datatype": "BYTES", "shape": [1], "data": [base64.b64encode(data).decode()]}
        answer = requests.post(f"{address}v2/models/{scorer.run.folder.name}/infer", json={"inputs": [tensor]})
        assert_refused(answer, 429)
        assert requests.get(address).ok, "the page costs nothing"


def test_a_proxy_tells_who_its_clients_are(web, tiny_run):
    """Only the one that was named; of others nobody believes it."""

    def ask(address: str, client: str) -> int:
        return post(address, b"nonsense", headers={"X-Forwarded-For": client}).status_code

    options = ("--per-minute", 1, "--no-explain")
    for proxy, statuses in ((("--proxy", "127.0.0.1"), [429, 422]), (("--proxy", "192.0.2.9"), [429, 429])):
        with serving(tiny_run.folder, *options, *proxy) as running:
            assert {ask(running.address, "192.0.2.1") for _ in range(20)} == {422}
            assert [ask(running.address, client) for client in ("192.0.2.1", "192.0.2.2")] == statuses


def test_a_full_queue_refuses_and_what_waits_is_answered(scorer, files):
    """503 with Retry-After while the net hangs; everybody else is answered when it goes on."""
    data, before = files[0].read_bytes(), scorer.restarts
    with application(scorer, allowance=Allowance(0), batch=2, room=3) as address, ThreadPoolExecutor(12) as pool:
        os.kill(scorer.pid, signal.SIGSTOP)
        asked = [pool.submit(post, address, data) for _ in range(12)]
        testlib.wait_until(lambda: sum(one.done() for one in asked) >= 12 - 3 - 2 * 2)
        os.kill(scorer.pid, signal.SIGCONT)
        answers = [one.result() for one in asked]
    refused = [one for one in answers if one.status_code != 200]
    assert 1 <= len(refused) <= 12 - 3 and scorer.restarts == before
    for one in refused:
        assert_refused(one, 503)
        assert int(one.headers["retry-after"]) >= 1


def test_slow_clients_are_not_waited_for(scorer, files):
    """Neither for their headers, nor for their body; a quick one is answered meanwhile."""
    with application(scorer, intake=Intake(seconds=0.5), header_seconds=0.5, per_client=20) as address:
        port = int(address.rstrip("/").rpartition(":")[2])
        slow = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(10)]
        for peer in slow[:5]:
            peer.sendall(b"POST /score HT")
        for peer in slow[5:]:
            peer.sendall(
                b"POST /score HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"
            )
        assert post(address, files[0].read_bytes()).ok
        assert all(_rest(peer) == b"" for peer in slow[:5])
        assert all(b" 408 " in peer.recv(1 << 16) for peer in slow[5:])
        many = [socket.create_connection(("127.0.0.1", port), timeout=20) for _ in range(30)]
        testlib.wait_until(lambda: sum(_closed(peer) for peer in many) >= 5)
        for peer in (*slow, *many):
            peer.close()


def _rest(peer: socket.socket) -> bytes:
    try:
        return peer.recv(1 << 16)
    except ConnectionResetError:
        return b""


def _closed(peer: socket.socket) -> bool:
    peer.setblocking(False)
    try:
        return peer.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


# --- the page's policy, and no traces --------------------------------------------------------------------------------


def test_a_browser_may_run_nothing_but_the_page_itself(server):
    """Its script and style by their hashes, no inline attributes, no other host; on errors as well."""
    answer = requests.get(server.address)
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'" and policy["connect-src"] == "'self'"
    for tag in ("script", "style"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", answer.text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert policy[f"{tag}-src"] == f"'sha256-{digest}'"
    assert not re.search(r"<[^>]*\s(style|on\w+)=", answer.text.partition("<script>")[0])
    assert not re.search(r"(src|href)=\"?(https?:)?//", answer.text)
    for other in (answer, requests.get(server.address + "nope"), requests.post(server.address + "score")):
        assert other.headers["content-security-policy"] == answer.headers["content-security-policy"]
        assert other.headers["x-content-type-options"] == "nosniff" and other.headers["cache-control"] == "no-store"
        assert "set-cookie" not in other.headers and "server" not in other.headers


def test_no_trace_of_a_picture_is_left(web, tiny_run, large, files, tmp_path):
    """Where no byte can be written to a file all is well; the log has neither name nor address, nor do the metrics."""
    no_files = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # noqa: E731
    with serving(
        tiny_run.folder, "--per-minute", 0, preexec_fn=no_files, env={**os.environ, "TMPDIR": str(tmp_path)}
    ) as running:
        assert post(running.address, large, "secret.png").ok
        assert '"crop": {' in post(running.address, large, "secret.png", "explain").text
        assert_refused(post(running.address, b"nonsense", "secret.png"), 422)
        assert_refused(requests.post(running.address + "score", json={"address": "http://secret.invalid/"}), 422)
        assert requests.get(running.address + "secret").status_code == 404
        assert "secret" not in requests.get(running.address + "metrics").text
        for pid in [running.process.pid, *running.children()]:
            limits = Path(f"/proc/{pid}/limits").read_text()
            assert re.search(r"Max core file size +0 ", limits), "a crash would write pictures to a disk"
        running.process.terminate()
        assert running.process.wait(30) == 0
        assert "secret" not in running.process.stderr.read()
    assert list(tmp_path.iterdir()) == []


# --- beginning and end -----------------------------------------------------------------------------------------------


def test_a_killed_child_costs_its_clients_no_answer(server, tiny_run, files):
    """While 8 clients ask, its process is killed: all answers are right, and it is ready again."""
    wanted = [one.score for one in score.score(tiny_run, [str(path) for path in files])]
    with ThreadPoolExecutor(8) as pool:
        asked = [pool.submit(post, server.address, path.read_bytes()) for path in files * 6]
        testlib.wait_until(lambda: sum(one.done() for one in asked) > 10)
        (child,) = server.children()
        os.kill(child, signal.SIGKILL)
        answers = [one.result() for one in asked]
    assert [one.json()["score"] for one in answers] == pytest.approx(wanted * 6, abs=1e-6)
    testlib.wait_until(lambda: requests.get(server.address + "v2/health/ready").ok)
    assert 'restarts{child="scorer"} 1.0' in requests.get(server.address + "metrics").text


def test_it_is_not_ready_while_its_child_starts(scorer):
    """Alive it is."""
    with application(scorer) as address:
        assert requests.get(address + "v2/health/ready").ok
        os.kill(scorer.pid, signal.SIGKILL)
        testlib.wait_until(lambda: not scorer.ready)
        assert requests.get(address + "v2/health/ready").status_code == 503
        assert requests.get(address + "v2/health/live").ok
        testlib.wait_until(lambda: requests.get(address + "v2/health/ready").ok)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_gracefully(web, tiny_run, large, number):
    """What has been asked is answered; then exit code 0, and no process is left."""
    with serving(tiny_run.folder, "--per-minute", 0, "--no-explain", "--wait", 1500) as running:
        (child,) = running.children()
        with ThreadPoolExecutor(3) as pool:
            asked = [pool.submit(post, running.address, large) for _ in range(3)]
            waiting = "selfie_waiting_pictures 3.0"
            testlib.wait_until(lambda: waiting in requests.get(running.address + "metrics").text)
            running.process.send_signal(number)
            assert [one.result().status_code for one in asked] == [200] * 3
        assert running.process.wait(30) == 0 and running.process.stderr.read() == ""
        assert not Path(f"/proc/{child}").exists()


def test_what_a_user_gets_wrong_is_told_in_one_line(web, tiny_run, own_run, server):
    """A port that is taken, a host that is not here, a run that cannot score."""

    def command(*options: object) -> subprocess.CompletedProcess:
        return testlib.command("tools/serve.py", "--run", tiny_run.folder, *options)

    testlib.assert_one_line_error(command("--port", server.port), f"127.0.0.1:{server.port}", "choose another --port")
    testlib.assert_one_line_error(command("--host", "192.0.2.1"), "cannot listen on 192.0.2.1")
    testlib.assert_one_line_error(command("--port", 70000), "cannot listen")
    own_run.save(state="started")
    testlib.assert_one_line_error(
        testlib.command("tools/serve.py", "--run", own_run.folder, "--port", 0), "not finished"
    )
