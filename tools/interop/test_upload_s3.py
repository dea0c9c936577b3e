"""Files in an object store: whimbreld with moto's server in place of Amazon's. Clients see what they see of files on the disk, and
what goes wrong with the store is told to them and to the operator, and harms nobody else."""

import base64
import hashlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from conftest import BIN, PASSWORD, free_port, running_server, start
from test_slixmpp import PATIENCE

boto3 = pytest.importorskip("boto3")
from botocore.config import Config as BotoConfig  # noqa: E402

BUCKET = "chat-files"
PART = 5 << 20
LISTED = "1 uploaded files are in the object store: they are listed, not copied"
KEY, SECRET = "AKIAWHIMBRELTEST", "a/secret+that=stays"


class Store:
    """moto on a port of its own. It checks signatures when it is told to, and can be stopped and started again."""

    def __init__(self):
        self.port = free_port()
        self.process = None
        self.begin()
        self.client = boto3.client("s3", endpoint_url=self.url, region_name="eu-central-1", aws_access_key_id=KEY,
                                   aws_secret_access_key=SECRET, config=BotoConfig(s3={"addressing_style": "path"},
                                                                                   retries={"max_attempts": 1}))
        self.client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def begin(self):
        command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        until("the store", lambda: not refused(self.port), 60)

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
        self.process.terminate()
        self.process.wait(PATIENCE)

    def keys(self):
        return sorted(found["Key"] for found in self.client.list_objects_v2(Bucket=BUCKET).get("Contents", []))

    def unfinished(self):
        return self.client.list_multipart_uploads(Bucket=BUCKET).get("Uploads", [])


def refused(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) != 0


def until(what, is_so, seconds=PATIENCE):
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"{what}: it does not come about"
        time.sleep(0.1)


@pytest.fixture
def store():
    running = Store()
    yield running
    running.end()


def write_config(tmp_path, store, more="", secret=SECRET, upload="", url=None):
    for name, text in (("access", KEY), ("secret", secret)):
        file = tmp_path / name
        file.write_text(text + "\n")
        file.chmod(0o600)
    config = tmp_path / "whimbrel.toml"
    config.write_text(f"""
[http]
tls = false
[upload]
mib_left_free = 0
{upload}
[upload.s3]
bucket = "{BUCKET}"
endpoint = "{url or store.url}"
region = "eu-central-1"
prefix = "of/us"
allow_http = true
access_key_file = "{tmp_path}/access"
secret_key_file = "{tmp_path}/secret"
{more}
""")
    return config


class Client:
    """One that logs in over TCP with TLS, and says what it is told."""

    def __init__(self, server, name):
        raw = socket.create_connection(("127.0.0.1", server.tls_port), PATIENCE)
        context = ssl.create_default_context(cafile=server.certificate)
        context.set_alpn_protocols(["xmpp-client"])
        self.socket = context.wrap_socket(raw, server_hostname="localhost")
        self.heard = ""
        self.open()
        plain = base64.b64encode(f"\0{name}\0{PASSWORD}".encode()).decode()
        self.ask(f"<auth xmlns='urn:ietf:params:xml:ns:xmpp-sasl' mechanism='PLAIN'>{plain}</auth>", "<success")
        self.open()
        self.ask("<iq type='set' id='b'><bind xmlns='urn:ietf:params:xml:ns:xmpp-bind'/></iq>", "</jid>")

    def open(self):
        self.ask("<stream:stream xmlns='jabber:client' xmlns:stream='http://etherx.jabber.org/streams' to='localhost' version='1.0'>",
                 "</stream:features>")

    def ask(self, text, wanted):
        """Says something, and waits for what has a text in it; the rest is forgotten."""
        self.socket.sendall(text.encode())
        while wanted not in self.heard:
            piece = self.socket.recv(65536)
            assert piece, self.heard
            self.heard += piece.decode()
        found, self.heard = self.heard, ""
        return found

    def slot(self, bytes, name="a b.png", media="image/png"):
        answer = self.ask(f"<iq type='get' id='s' to='upload.localhost'><request xmlns='urn:xmpp:http:upload:0' filename='{name}' "
                          f"size='{bytes}' content-type='{media}'/></iq>", "</iq>")
        assert "<slot" in answer, answer
        return tuple(re.search(rf"<{part} url=['\"](.*?)['\"]", answer).group(1).replace("&amp;", "&") for part in ("put", "get"))


def send(method, url, body=None, **headers):
    request = urllib.request.Request(url, data=body, method=method, headers={k.replace("_", "-"): v for k, v in headers.items()})
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def put(url, body, media="image/png"):
    return send("PUT", url, body, Content_Type=media)


def get(url, **headers):
    return send("GET", url, **headers)


def content(bytes):
    """What has no part twice."""
    return (b"".join(hashlib.sha256(n.to_bytes(8)).digest() for n in range(bytes // 32 + 1)))[:bytes]


def key_of(url):
    """The object of a file."""
    id = url.split("/upload/")[1].split("/")[0]
    return f"of/us/{id[16:18]}/{id}"


def test_files_come_and_go_as_those_on_the_disk(store, tmp_path):
    with running_server("mio", tmp_path / "data", "--config", write_config(tmp_path, store)) as server:
        server.account("juliet")
        juliet = Client(server, "juliet")
        for bytes in (1, 300_000, PART, PART + 1, 2 * PART, 2 * PART + 77_777):
            body = content(bytes)
            url, found = juliet.slot(bytes)
            assert get(found)[0] == 404
            status, _, said = put(url, body)
            assert status == 201, said
            status, headers, received = get(found)
            assert (status, received == body) == (200, True), bytes
            assert half_sent(url, body, 0).recv(12) == b"HTTP/1.1 409", "a slot is used once"
            shown = store.client.get_object(Bucket=BUCKET, Key=key_of(found))
            assert shown["ContentLength"] == bytes and shown["Body"].read() == body
        # The fields are those of the directory, and say nothing of the store.
        assert headers["Content-Type"] == "image/png" and headers["Content-Length"] == str(bytes)
        assert headers["Content-Disposition"].startswith("inline; ")
        assert headers["Content-Security-Policy"] == "default-src 'none'; sandbox"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert not [name for name in headers if name.lower().startswith("x-amz") or name.lower() == "server"]
        for asked, first, end in (("bytes=10-19", 10, 20), (f"bytes={PART - 3}-{PART + 3}", PART - 3, PART + 4),
                                  ("bytes=-5", bytes - 5, bytes), (f"bytes={PART}-", PART, bytes)):
            status, part, received = get(found, Range=asked)
            assert (status, received == body[first:end]) == (206, True), asked
            assert part["Content-Range"] == f"bytes {first}-{end - 1}/{bytes}"
        assert get(found, Range=f"bytes={bytes}-")[0] == 416
        assert get(found, If_None_Match=headers["ETag"])[0] == 304
        assert get(found, If_Modified_Since=headers["Last-Modified"])[0] == 304
        assert get(found, Range="bytes=0-9", If_Range='"another"')[0] == 200
        assert send("HEAD", found)[1]["Content-Length"] == str(bytes)
        # Nothing lies on the disk, and nothing is left half done.
        assert not [file for file in (server.data / "uploads").glob("*/*")]
        assert store.unfinished() == [] and len(store.keys()) == 6
        listed = json.loads(server.ctl("upload", "list", "juliet@localhost", "--json").stdout)
        assert listed["files"] == 6
        server.ctl("upload", "remove", listed["uploads"][0]["id"])
        until("its object is removed", lambda: len(store.keys()) == 5)
        server.ctl("user", "del", "juliet@localhost")
        until("the account's objects are removed", lambda: store.keys() == [])
        assert get(found)[0] == 404
        log = server.log.read_text()
        assert SECRET not in log and KEY not in log


def test_files_end_when_their_time_is_over(store, tmp_path):
    # A file is never shorter kept than a day: what was uploaded is made older by the clock of its slot.
    config = write_config(tmp_path, store, upload="slot_seconds = 1\ntransfer_seconds = 1")
    with running_server("mio", tmp_path / "data", "--config", config) as server:
        server.account("juliet")
        juliet = Client(server, "juliet")
        url, found = juliet.slot(5)
        # An object whose commit was lost: it goes with its slot.
        store.client.put_object(Bucket=BUCKET, Key=key_of(found), Body=b"hello")
        foreign = "of/us/00/something-else"
        store.client.put_object(Bucket=BUCKET, Key=foreign, Body=b"hello")
        until("the slot ends, and its object", lambda: store.keys() == [foreign])
        assert put(url, b"hello")[0] == 403


def half_sent(url, body, sent):
    """A connection on which some of a file has been sent."""
    host, _, path = url.removeprefix("http://").partition("/")
    name, _, port = host.partition(":")
    connection = socket.create_connection((name, int(port)), PATIENCE)
    connection.sendall(f"PUT /{path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: image/png\r\nContent-Length: {len(body)}\r\n\r\n".encode())
    connection.sendall(body[:sent])
    return connection


def test_a_put_that_breaks_off_leaves_nothing(store, tmp_path):
    with running_server("mio", tmp_path / "data", "--config", write_config(tmp_path, store)) as server:
        server.account("juliet")
        juliet = Client(server, "juliet")
        body = content(2 * PART + 5)
        url, found = juliet.slot(len(body))
        connection = half_sent(url, body, PART + 300_000)
        until("the first part is stored", lambda: store.unfinished())
        assert get(found)[0] == 404
        assert half_sent(url, body, 0).recv(12) == b"HTTP/1.1 409", "one at a time"
        connection.close()
        until("its parts are forgotten", lambda: store.unfinished() == [])
        assert store.keys() == [] and get(found)[0] == 404
        until("it may be tried again", lambda: put(url, body)[0] == 201)
        assert get(found)[2] == body


def test_a_server_that_is_killed_leaves_no_half_file(store, tmp_path):
    config = write_config(tmp_path, store)
    server = start("mio", tmp_path / "data", "--config", config)
    server.account("juliet")
    juliet = Client(server, "juliet")
    body = content(2 * PART + 5)
    url, found = juliet.slot(len(body))
    connection = half_sent(url, body, 2 * PART)
    until("the first part is stored", lambda: store.unfinished())
    kept, kept_at = juliet.slot(7)
    assert put(kept, b"goodbye")[0] == 201
    server.process.kill()
    server.process.wait(PATIENCE)
    connection.close()
    assert len(store.unfinished()) == 1
    other = store.client.create_multipart_upload(Bucket=BUCKET, Key="of/others")
    with running_server("mio", tmp_path / "data", "--config", config) as server:
        until("what nobody finishes is aborted", lambda: [u["UploadId"] for u in store.unfinished()] == [other["UploadId"]], 60)
        moved = lambda url: re.sub(r"localhost:\d+", f"localhost:{server.http_port}", url)  # noqa: E731
        assert get(moved(found))[0] == 404
        assert get(moved(kept_at))[2] == b"goodbye"
        assert put(moved(url), body)[0] == 201, "the slot is good still"
        assert get(moved(found))[2] == body


def test_a_live_upgrade_waits_for_a_transfer_and_forgets_one_that_stands_still(store, tmp_path):
    config = write_config(tmp_path, store)
    config.write_text(config.read_text() + "[limits]\nupgrade_seconds = 8\n")
    with running_server("mio", tmp_path / "data", "--config", config) as server:
        server.account("juliet")
        juliet = Client(server, "juliet")
        body = content(2 * PART + 5)
        (slow, slow_at), (good, good_at) = juliet.slot(len(body)), juliet.slot(len(body))
        still = half_sent(slow, body, PART + 300_000)
        until("its first part is stored", lambda: len(store.unfinished()) == 1)
        moving = half_sent(good, body, PART + 300_000)
        until("that of the other, too", lambda: len(store.unfinished()) == 2)
        upgrade = subprocess.Popen([BIN / "whimbrelctl", "--data", server.data, "upgrade"], stdout=subprocess.PIPE, text=True)
        time.sleep(1)
        moving.sendall(body[PART + 300_000:])
        assert moving.recv(12) == b"HTTP/1.1 201", "it is waited for"
        said, _ = upgrade.communicate(timeout=60)
        assert upgrade.returncode == 0, said
        still.close()
        until("what stood still is forgotten", lambda: store.unfinished() == [], 60)
        assert get(good_at)[2] == body
        assert get(slow_at)[0] == 404
        assert put(slow, body)[0] == 201, "the slot is good still"
        juliet.ask("<iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>", "type='result'")


def test_a_store_that_is_away_is_told_and_chat_goes_on(store, tmp_path):
    with running_server("mio", tmp_path / "data", "--config", write_config(tmp_path, store)) as server:
        server.account("juliet")
        juliet = Client(server, "juliet")
        url, found = juliet.slot(5)
        assert put(url, b"hello")[0] == 201
        late, _ = juliet.slot(5)
        # It takes connections and says nothing: those who wait for it are the transfers alone.
        store.process.send_signal(signal.SIGSTOP)
        connections = [half_sent(juliet.slot(5)[0], b"hello", 5) for _ in range(8)]
        begun = time.monotonic()
        for _ in range(50):
            juliet.ask("<iq type='get' id='p' to='localhost'><ping xmlns='urn:xmpp:ping'/></iq>", "type='result'")
        assert time.monotonic() - begun < 2, "chat does not wait for the store"
        assert send("HEAD", found)[0] == 200, "neither does what is in the directory"
        [connection.close() for connection in connections]
        store.process.send_signal(signal.SIGCONT)
        store.end()
        for status, headers, said in (put(late, b"hello"), get(found)):
            problem = json.loads(said)
            assert (status, problem["type"]) == (503, "urn:whimbrel:problem:storage"), said
            assert int(headers["Retry-After"]) > 0 and str(store.port) not in said.decode()
        store.begin()
        store.client.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})
        assert put(late, b"hello")[0] == 201, "the slot is good still"


def test_credentials_that_may_not_are_told(store, tmp_path):
    # moto lets everybody in for so many requests, and then looks at signatures and policies.
    assert send("POST", f"{store.url}/moto-api/reset-auth", b"0", Content_Type="text/plain")[0] == 200
    with running_server("mio", tmp_path / "data", "--config", write_config(tmp_path, store, secret="tell-nobody")) as server:
        server.account("juliet")
        url, found = Client(server, "juliet").slot(5)
        status, headers, said = put(url, b"hello")
        assert (status, json.loads(said)["type"]) == (503, "urn:whimbrel:problem:storage"), said
        assert b"InvalidAccessKeyId" not in said and b"Signature" not in said
        assert get(found)[0] == 404
        until("the operator is told", lambda: "object store" in server.log.read_text())
        log = server.log.read_text()
        assert "tell-nobody" not in log and "may not be listed" in log, log


def check(config, data, **environment):
    command = [BIN / "whimbreld", "--config", config, "--data", data, "--check"]
    clean = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean | environment)


def test_check_says_what_is_wrong_with_the_store(store, tmp_path):
    config = write_config(tmp_path, store)
    good = check(config, tmp_path / "data")
    assert f"{BUCKET} at {store.url}, of/us/" in good.stdout, good
    assert SECRET not in good.stdout + good.stderr and KEY not in good.stdout + good.stderr
    (tmp_path / "secret").chmod(0o644)
    assert "upload.s3.secret_key_file" in check(config, tmp_path / "data").stderr
    (tmp_path / "secret").chmod(0o600)
    written = config.read_text()
    config.write_text(written.replace("allow_http = true\n", ""))
    assert "set allow_http, or use https" in check(config, tmp_path / "data").stderr
    config.write_text(written.replace(store.url, "http://192.0.2.1:9000"))
    assert "in the clear" in check(config, tmp_path / "data").stderr
    config.write_text(re.sub(r"(access|secret)_key_file = .*\n", "", written))
    bare = check(config, tmp_path / "data")
    assert "access_key_file is empty, and so is AWS_ACCESS_KEY_ID in the environment" in bare.stderr
    given = check(config, tmp_path / "data", AWS_ACCESS_KEY_ID=KEY, AWS_SECRET_ACCESS_KEY=SECRET)
    assert f"{BUCKET} at" in given.stdout, given


def test_a_backup_lists_the_objects(store, tmp_path):
    data = tmp_path / "data"
    local = tmp_path / "local.toml"
    local.write_text("[http]\ntls = false\n[upload]\nmib_left_free = 0\n")
    with running_server("mio", data, "--config", local) as server:
        server.account("juliet")
        url, before = Client(server, "juliet").slot(6)
        assert put(url, b"before")[0] == 201
    config = write_config(tmp_path, store)
    with running_server("mio", data, "--config", config) as server:
        juliet = Client(server, "juliet")
        moved = re.sub(r"localhost:\d+", f"localhost:{server.http_port}", before)
        assert get(moved)[2] == b"before", "what was on the disk before is given from there"
        url, found = juliet.slot(PART + 9)
        assert put(url, content(PART + 9))[0] == 201
        into = tmp_path / "backup"
        said = server.ctl("backup", into, "--verify")
        assert "1 uploaded files (6 bytes) copied" in said.stdout and LISTED in said.stdout, said.stdout
        listed = (into / "uploads" / "objects").read_text()
        id = found.split("/upload/")[1].split("/")[0]
        assert f"endpoint {store.url}\nbucket {BUCKET}\nprefix of/us\n" in listed and f"object {id} {PART + 9} " in listed
        assert SECRET not in listed
    # Without a server it is the same, and a list that was changed is found out.
    again = subprocess.run([BIN / "whimbrelctl", "--data", data, "backup", tmp_path / "again", "--verify"], capture_output=True, text=True)
    assert LISTED in again.stdout, again
    # The copy can be served: its objects are where they were.
    with running_server("mio", tmp_path / "again", "--config", config) as server:
        moved = re.sub(r"localhost:\d+", f"localhost:{server.http_port}", found)
        assert get(moved)[2] == content(PART + 9)
