"""Package registries on this machine, that pip, npm and apt-get are pointed to by their own configuration."""

import base64
import hashlib
import json
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote


class Registries(ThreadingHTTPServer):
    """``add`` publishes a package; ``environment`` is what clients have to see; ``requests``: all paths asked for."""

    daemon_threads = True

    def __init__(self, folder):
        super().__init__(("127.0.0.1", 0), _Handler)
        self.folder, self.routes, self.requests = folder, {}, []
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        (folder / "debian").mkdir(parents=True)
        (folder / "lists").mkdir()
        (folder / "archives").mkdir()
        (folder / "sources.list").write_text(f"deb [trusted=yes] file:{folder}/debian ./\n")
        (folder / "apt.conf").write_text(
            f'Dir::Etc::SourceList "{folder}/sources.list";\nDir::Etc::SourceParts "{folder}/none";\n'
            f'Dir::State::Lists "{folder}/lists";\nDir::Cache "{folder}/archives";\nAPT::Sandbox::User "root";\n'
        )
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    @property
    def environment(self):
        return {
            "PIP_INDEX_URL": f"{self.url}/simple",
            "PIP_CONFIG_FILE": "/dev/null",
            "PIP_EXTRA_INDEX_URL": "",
            "PIP_FIND_LINKS": "",
            "PIP_NO_CACHE_DIR": "1",
            "PIP_RETRIES": "0",
            "npm_config_registry": self.url,
            "npm_config_cache": str(self.folder / "npm"),
            "npm_config_userconfig": "/dev/null",
            "npm_config_fetch_retries": "0",
            "npm_config_update_notifier": "false",
            "APT_CONFIG": str(self.folder / "apt.conf"),
        }

    def add(self, package, content):
        getattr(self, f"_{package.registry}")(package.name, package.version, content)

    def _pypi(self, name, version, content):
        file = f"{name.replace('-', '_')}-{version}-py3-none-any.whl"
        self.routes[f"/simple/{name}/"] = ("text/html", f'<a href="/files/{file}">{file}</a>'.encode())
        self.routes[f"/files/{file}"] = ("application/zip", content)

    def _npm(self, name, version, content):
        file = f"/{name}/-/{name.rpartition('/')[2]}-{version}.tgz"
        digest = base64.b64encode(hashlib.sha512(content).digest()).decode()
        dist = {
            "tarball": self.url + file,
            "integrity": f"sha512-{digest}",
            "shasum": hashlib.sha1(content).hexdigest(),
        }
        about = {"name": name, "dist-tags": {"latest": version}}
        about["versions"] = {version: {"name": name, "version": version, "dist": dist}}
        self.routes[f"/{name}"] = ("application/json", json.dumps(about).encode())
        self.routes[file] = ("application/octet-stream", content)

    def _debian(self, name, version, content):
        folder = self.folder / "debian"
        (folder / f"{name}.deb").write_bytes(content)
        entry = (
            f"Package: {name}\nVersion: {version}\nArchitecture: all\nFilename: ./{name}.deb\nSize: {len(content)}\n"
        )
        with (folder / "Packages").open("a") as index:
            index.write(f"{entry}SHA256: {hashlib.sha256(content).hexdigest()}\nDescription: tiny\n\n")

    def update(self, environment):
        """What a user has done once before: apt's list of packages."""
        subprocess.run(["apt-get", "update", "-q"], env=environment, check=True, capture_output=True)


class _Handler(BaseHTTPRequestHandler):
    def log_message(self, *args):
        return

    def do_GET(self):
        path = unquote(self.path)
        self.server.requests.append(path)
        kind, content = self.server.routes.get(path, (None, b""))
        self.send_response(200 if kind else 404)
        self.send_header("Content-Type", kind or "text/plain")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
