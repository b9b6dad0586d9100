"""A server on this machine that speaks the routes of the hub which pulling and pushing take, with faults on request."""

import base64
import hashlib
import json
import re
import threading
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import pytest
from huggingface_hub import constants

LARGE = 1000  # from here on a file is stored by its sha256, as the hub does with weights


def git_hash(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def sha256(content):
    return hashlib.sha256(content).hexdigest()


class Hub(ThreadingHTTPServer):
    """``repos``: id -> file -> bytes. ``commit`` is of all of them, and the only revision beside main.

    ``stated``: (id, file) -> other bytes whose hash and size are stated for it. ``cuts``: file -> numbers of bytes,
    one for each request, after which the connection breaks. ``requests`` has (method, path, range) of all of them.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repos, self.stated, self.cuts = defaultdict(dict), {}, defaultdict(list)
        self.uploads, self.requests, self.private = {}, [], set()
        self.commit = "c0ffee" + 34 * "0"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"

    def fetched(self):
        """The files whose bytes were asked for, in order."""
        return [
            unquote(path).rpartition("/")[2]
            for method, path, _ in self.requests
            if method == "GET" and "/resolve/" in path
        ]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        return

    def handle_one(self):
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append((self.command, self.path, self.headers.get("Range")))
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length) if length else self._chunks()
        for pattern, answer in ROUTES:
            if found := re.fullmatch(pattern, f"{self.command} {path}"):
                return answer(self, body, *found.groups())
        return self.reply(404, {"error": f"no route {path}"})

    do_GET = do_HEAD = do_POST = do_PUT = handle_one

    def _chunks(self):
        body = b""
        if self.headers.get("Transfer-Encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                body += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        return body

    def reply(self, status, content, headers=()):
        content = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {
            "Content-Length": len(content),
            "Content-Type": "application/json",
            **dict(headers),
        }.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def known(self, id, revision):
        hub = self.server
        if id not in hub.repos or (id in hub.private and "Authorization" not in self.headers):
            self.reply(401, {}, {"X-Error-Code": "RepoNotFound"})
        elif revision not in ("main", hub.commit):
            self.reply(404, {}, {"X-Error-Code": "RevisionNotFound"})
        else:
            return True
        return False

    def entries(self, id):
        for name, content in self.server.repos[id].items():
            content = self.server.stated.get((id, name), content)
            yield name, len(content), git_hash(content), sha256(content) if len(content) >= LARGE else None

    def info(self, body, id, revision="main"):
        if self.known(id, revision):
            files = [
                {"rfilename": name, "size": size, "blobId": blob}
                | ({"lfs": {"sha256": digest, "size": size, "pointerSize": 130}} if digest else {})
                for name, size, blob, digest in self.entries(id)
            ]
            self.reply(200, {"id": id, "sha": self.server.commit, "siblings": files})

    def tree(self, body, id, revision):
        if self.known(id, revision):
            files = [
                {"type": "file", "path": name, "size": size, "oid": blob}
                | ({"lfs": {"oid": digest, "size": size, "pointerSize": 130}} if digest else {})
                for name, size, blob, digest in self.entries(id)
            ]
            self.reply(200, files)

    def file(self, body, id, revision, name):
        hub = self.server
        if not self.known(id, revision):
            return
        if name not in hub.repos[id]:
            self.reply(404, {}, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": hub.commit})
            return
        content = hub.repos[id][name]
        stated = hub.stated.get((id, name), content)
        etag = sha256(stated) if len(stated) >= LARGE else git_hash(stated)
        headers = {"ETag": f'"{etag}"', "X-Repo-Commit": hub.commit, "Accept-Ranges": "bytes"}
        start = int(self.headers["Range"].removeprefix("bytes=").rstrip("-")) if "Range" in self.headers else 0
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if self.command == "GET" and hub.cuts[name]:
            self.send_response(206 if start else 200)
            for key, value in {**headers, "Content-Length": len(content) - start}.items():
                self.send_header(key, str(value))
            self.end_headers()
            self.wfile.write(content[start : start + hub.cuts[name].pop(0)])
            self.close_connection = True
            return
        self.reply(206 if start else 200, content[start:], headers)

    def create(self, body):
        asked = json.loads(body)
        id = f"{asked['organization']}/{asked['name']}"
        if "Authorization" not in self.headers:
            self.reply(401, {"error": "Invalid username or password."})
            return
        _ = self.server.repos[id]
        self.reply(200, {"url": f"{self.server.url}/{id}", "name": id})

    def preupload(self, body, id, revision):
        files = json.loads(body)["files"]
        modes = [
            {"path": f["path"], "uploadMode": "lfs" if f["size"] >= LARGE else "regular", "shouldIgnore": False}
            for f in files
        ]
        self.reply(200, {"files": modes})

    def batch(self, body, id):
        objects = [
            {**entry, "actions": {"upload": {"href": f"{self.server.url}/upload/{entry['oid']}", "header": {}}}}
            for entry in json.loads(body)["objects"]
        ]
        self.reply(200, {"transfer": "basic", "objects": objects})

    def upload(self, body, digest):
        assert sha256(body) == digest
        self.server.uploads[digest] = body
        self.reply(200, {})

    def commit_files(self, body, id, revision):
        hub = self.server
        for line in body.decode().splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                hub.repos[id][value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                hub.repos[id][value["path"]] = hub.uploads[value["oid"]]
        hub.commit = sha256(body)[:40]
        self.reply(200, {"commitUrl": f"{hub.url}/{id}/commit/{hub.commit}", "commitOid": hub.commit, "success": True})

    def valid(self, body):
        self.reply(200, {"errors": [], "warnings": []})


_REPO = r"([^/]+/[^/]+)"
ROUTES = (
    (rf"GET /api/models/{_REPO}/revision/([^/]+)", _Handler.info),
    (rf"GET /api/models/{_REPO}/tree/([^/]+)", _Handler.tree),
    (rf"GET /api/models/{_REPO}", _Handler.info),
    (rf"(?:GET|HEAD) /{_REPO}/resolve/([^/]+)/(.+)", _Handler.file),
    (r"POST /api/repos/create", _Handler.create),
    (r"POST /api/validate-yaml", _Handler.valid),
    (rf"POST /api/models/{_REPO}/preupload/([^/]+)", _Handler.preupload),
    (rf"POST /{_REPO}\.git/info/lfs/objects/batch", _Handler.batch),
    (r"PUT /upload/(\w+)", _Handler.upload),
    (rf"POST /api/models/{_REPO}/commit/([^/]+)", _Handler.commit_files),
)


@pytest.fixture
def local_hub(monkeypatch, tmp_path):
    """A hub that huggingface_hub talks to instead of the real one, with a cache of its own."""
    server = Hub()
    address = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    for name, value in {
        "ENDPOINT": server.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": address,
        "HF_HOME": str(tmp_path / "home"),
        "HF_HUB_CACHE": str(tmp_path / "home" / "hub"),
        "HF_HUB_OFFLINE": False,
        "HF_HUB_DISABLE_XET": True,
    }.items():
        monkeypatch.setattr(constants, name, value)
    yield server
    server.shutdown()
    server.server_close()
