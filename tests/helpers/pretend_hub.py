"""A model hub on this machine: the endpoints that an upload with huggingface_hub needs.

It is a plain HTTP server on the loopback interface. It keeps what is committed and can be made to
fail at any endpoint.
"""

import base64
import contextlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from huggingface_hub import constants

TOKEN = "hf_pretendtokenpretendtoken"


@dataclass
class PretendHub:
    """What the server knows and does.

    Attributes:
      url: its address.
      repos: repository -> what its creation asked for.
      files: (repository, branch) -> path -> content.
      messages: of all commits.
      asked: method and path of every request.
      faults: pattern of paths -> HTTP status to answer with; 0 cuts the connection.
      large: content of large files by sha256.
    """

    url: str = ""
    repos: dict[str, dict] = field(default_factory=dict)
    files: dict[tuple[str, str], dict[str, bytes]] = field(default_factory=dict)
    messages: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)
    large: dict[str, bytes] = field(default_factory=dict)

    def commit(self, repo: str, branch: str, lines: list[dict]) -> None:
        files = self.files[repo, branch]
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                self.messages.append(value["summary"])
            elif line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                files[value["path"]] = self.large[value["oid"]]


class _Handler(BaseHTTPRequestHandler):
    hub: PretendHub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self._answer("GET")

    def do_POST(self):
        self._answer("POST")

    def do_PUT(self):
        self._answer("PUT")

    def _answer(self, method: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = self._chunks()
        path = self.path.partition("?")[0]
        if path == "/api/agent-harnesses":  # huggingface_hub asks for it once a process
            return self._send({}, 404)
        self.hub.asked.append(f"{method} {path}")
        for pattern, status in self.hub.faults.items():
            if re.search(pattern, path):
                if status == 0:
                    self.close_connection = True
                    self.connection.close()
                    return None
                # Some servers echo what they were sent.
                return self._send({"error": f"no: {self.headers.get('Authorization')}"}, status)
        if "/lfs/" not in path and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            return self._send({"error": "Invalid user token."}, 401)
        return self._send(*self._route(method, path, body))

    def _chunks(self) -> bytes:
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _route(self, method: str, path: str, body: bytes) -> tuple[dict, int]:
        hub = self.hub
        if path == "/api/whoami-v2":
            return {"name": "acme", "type": "user", "orgs": []}, 200
        if path == "/api/validate-yaml":
            assert json.loads(body)["content"].startswith("---\n")
            return {"errors": [], "warnings": []}, 200
        if path == "/api/repos/create":
            asked = json.loads(body)
            repo = f"{asked['organization']}/{asked['name']}"
            status = 409 if repo in hub.repos else 200
            hub.repos.setdefault(repo, asked)
            hub.files.setdefault((repo, "main"), {})
            return {"url": f"{hub.url}/{repo}", "name": repo}, status
        if method == "PUT":
            hub.large[path.rpartition("/")[2]] = body
            return {}, 200
        if found := re.fullmatch(r"/(.+)\.git/info/lfs/objects/batch", path):
            objects = [
                {**one, "actions": {"upload": {"href": f"{hub.url}/lfs/{one['oid']}"}}}
                for one in json.loads(body)["objects"]
            ]
            return {"objects": objects, "transfer": "basic"}, 200
        found = re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/([\w-]+)/([^/]+))?", path)
        assert found, path
        repo, verb, branch = found.groups()
        if verb == "branch":
            new = (repo, branch) not in hub.files
            hub.files.setdefault((repo, branch), dict(hub.files[repo, "main"]))
            return {}, 200 if new else 409
        if (repo, branch or "main") not in hub.files:
            return {"error": "not found"}, 404
        if verb == "preupload":
            files = [
                {
                    "path": one["path"],
                    "uploadMode": "lfs" if one["path"].endswith("tensors") else "regular",
                    "shouldIgnore": False,
                }
                for one in json.loads(body)["files"]
            ]
            return {"files": files}, 200
        if verb == "commit":
            hub.commit(repo, branch, [json.loads(line) for line in body.splitlines()])
            return {"commitUrl": f"{hub.url}/{repo}/commit/{'0' * 40}", "commitOid": "0" * 40}, 200
        return {"id": repo, "modelId": repo, "sha": "0" * 40}, 200

    def _send(self, answer: dict, status: int) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if status == 404:
            self.send_header("X-Error-Code", "RevisionNotFound")
        self.end_headers()
        self.wfile.write(content)


@contextlib.contextmanager
def pretend_hub() -> Iterator[PretendHub]:
    """Serves a hub without repositories."""
    hub = PretendHub()
    handler = type("Handler", (_Handler,), {"hub": hub})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        hub.url = f"http://127.0.0.1:{serving.server_port}"
        thread = threading.Thread(target=serving.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        yield hub
        serving.shutdown()


def connect(monkeypatch: pytest.MonkeyPatch, hub: PretendHub, token_file: Path) -> None:
    """Makes huggingface_hub use this hub with its token.

    Args:
      token_file: a path without a file, in place of the user's saved token.
    """
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    # Large files then go through LFS, whose protocol the pretend hub has.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(token_file))
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
