"""A hub on this machine: the few endpoints that huggingface_hub needs to upload a folder and to download files."""

import base64
import hashlib
import importlib
import json
import sys
from urllib.parse import parse_qs, unquote, urlencode, urlsplit

from huggingface_hub.utils import reset_sessions

from helpers.local_server import LocalServer

TOKEN = "hf_right"
COMMIT = "c" * 40


class LocalHub(LocalServer):
    """Repositories in memory, served over HTTP; a context manager.

    Attributes:
        endpoint: its address.
        repositories: "me/cat", or "datasets/me/cats" -> path -> bytes.
        said_sizes: path -> size that is said of it in place of its own.
        large: endings of the files that are to go through large file storage.
        refused: part of a path -> status with which requests to it are refused.
        requests: what was asked, "POST /api/repos/create" and the like.
        tokens: what the requests were authorized with, "Bearer hf_right" and the like.
        collections: slug -> [("me/cat", "model"), …].
        redirects: files that are fetched are handed out by another server, as a mirror and the hub's storage do.
    """

    def __init__(self):
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.large, self.refused, self.requests = (".png", ".safetensors"), {}, []
        self.tokens, self.redirects, self.collections, self.said_sizes = [], False, {}, {}
        self._objects: dict[str, bytes] = {}

    def stop(self) -> None:
        """No answer from now on; connections that are still open are forgotten."""
        super().stop()
        reset_sessions()

    def _answer(self, request) -> None:
        path = unquote(urlsplit(request.path).path)
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        self.requests.append(f"{request.command} {path}")
        self.tokens.append(request.headers.get("Authorization"))
        status = next((code for part, code in self.refused.items() if part in path), None)
        if status is not None:
            return _send(request, {"error": "refused"}, status)
        if path.startswith("/objects/"):
            if request.command == "PUT":
                self._objects[path.removeprefix("/objects/")] = body
                return _send(request, {})
            return _send(request, self._objects[path.removeprefix("/objects/")])
        if "/resolve/" in path:
            return self._file(request, path)
        if path in ("/api/models", "/api/models/") and request.command == "GET":
            return self._models(request, parse_qs(urlsplit(request.path).query))
        if path.startswith("/api/collections/"):
            return self._collection(request, path.removeprefix("/api/collections/"))
        if path.startswith("/api/models/") and request.command == "GET":
            return self._model_info(request, path)
        if path.startswith("/api/datasets/") and request.command == "GET":
            return self._data_set_info(request, path)
        if path == "/api/validate-yaml":
            return _send(request, {"errors": [], "warnings": []})
        if request.headers.get("Authorization") != f"Bearer {TOKEN}":
            return _send(request, {"error": "Invalid username or password."}, 401)
        self._write(request, path, body)

    def _write(self, request, path: str, body: bytes) -> None:
        """What needs the token."""
        if path == "/api/whoami-v2":
            return _send(request, {"name": "me", "type": "user"})
        if path == "/api/repos/create":
            asked = json.loads(body)
            repository = f"{asked.get('organization') or 'me'}/{asked['name']}"
            known = repository in self.repositories
            self.repositories.setdefault(repository, {})
            return _send(request, {"url": f"{self.endpoint}/{repository}"}, 409 if known else 200)
        if path.endswith("/info/lfs/objects/batch"):
            return _send(request, {"objects": [self._place(entry) for entry in json.loads(body)["objects"]]})
        repository = "/".join(path.split("/")[3:5])
        if repository not in self.repositories:
            return _send(request, {"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        if "/preupload/" in path:
            files = [
                {"path": entry["path"], "uploadMode": self._mode(entry["path"]), "shouldIgnore": False}
                for entry in json.loads(body)["files"]
            ]
            return _send(request, {"files": files})
        if "/commit/" in path:
            self._commit(repository, body)
            return _send(request, {"commitUrl": f"{self.endpoint}/{repository}/commit/{COMMIT}", "commitOid": COMMIT})
        return _send(request, {"error": "no such endpoint"}, 404)

    def _mode(self, path: str) -> str:
        return "lfs" if path.endswith(self.large) else "regular"

    def _place(self, entry: dict) -> dict:
        return {**entry, "actions": {"upload": {"href": f"{self.endpoint}/objects/{entry['oid']}"}}}

    def _commit(self, repository: str, body: bytes) -> None:
        for line in body.splitlines():
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                self.repositories[repository][value["path"]] = base64.b64decode(value["content"])
            elif entry["key"] == "lfsFile":
                content = self._objects[value["oid"]]
                assert hashlib.sha256(content).hexdigest() == value["oid"]
                self.repositories[repository][value["path"]] = content

    def _models(self, request, query) -> None:
        """The repositories of an owner, in pages of two."""
        owned = [name for name in self.repositories if name.startswith(f"{query['author'][0]}/")]
        first, most = int(query.get("cursor", ["0"])[0]), min(2, int(query["limit"][0]))
        page, rest = owned[first : first + most], owned[first + most :]
        others = {name: values[0] for name, values in query.items() if name != "cursor"}
        more = urlencode({**others, "cursor": first + most})
        link = {"Link": f'<{self.endpoint}/api/models?{more}>; rel="next"'} if rest else {}
        _send(request, [self._facts(name) for name in page], 200, link)

    def _collection(self, request, slug) -> None:
        if slug not in self.collections:
            return _send(request, {"error": "Collection not found"}, 404)
        facts = {"slug": slug, "title": "t", "owner": {}, "lastUpdated": "2024-01-01T00:00:00.000Z", "position": 0,
                 "private": False, "theme": "green", "upvotes": 0}  # fmt: skip
        items = [{"_id": "x", "id": name, "type": kind, "position": 0} for name, kind in self.collections[slug]]
        _send(request, {**facts, "items": items})

    def _facts(self, repository: str) -> dict:
        files = [{"rfilename": name} for name in sorted(self.repositories[repository])]
        facts = {"id": repository, "sha": COMMIT, "private": False, "downloads": 0, "likes": 0, "tags": []}
        return {**facts, "siblings": files}

    def _model_info(self, request, path: str) -> None:
        repository = "/".join(path.split("/")[3:5])
        if repository not in self.repositories:
            return _send(request, {"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        _send(request, self._facts(repository))

    def _data_set_info(self, request, path: str) -> None:
        name = "/".join(path.split("/")[2:5])
        if name not in self.repositories:
            return _send(request, {"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
        files = [{"rfilename": path, "size": self.said_sizes.get(path, len(content))}
                 for path, content in sorted(self.repositories[name].items())]  # fmt: skip
        _send(request, {"id": name.removeprefix("datasets/"), "sha": COMMIT, "siblings": files, "tags": []})

    def _file(self, request, path: str) -> None:
        repository, _, rest = path.lstrip("/").partition("/resolve/")
        content = self.repositories.get(repository, {}).get(rest.partition("/")[2])
        if content is None:
            return _send(request, {}, 404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha1(content).hexdigest()}"'}
        if self.redirects:
            oid = hashlib.sha256(content).hexdigest()
            self._objects[oid] = content
            linked = {"X-Linked-Size": str(len(content)), "X-Linked-ETag": f'"{oid}"'}
            return _send(request, b"", 302, {**headers, **linked, "Location": f"{self.endpoint}/objects/{oid}"})
        _send(request, content, 200, headers)


def _send(request, content, status: int = 200, headers: dict | None = None) -> None:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    request.send_response(status)
    for name, value in {
        "Content-Length": str(len(data)),
        "Content-Type": "application/json",
        **(headers or {}),
    }.items():
        request.send_header(name, value)
    request.end_headers()
    if request.command != "HEAD":
        request.wfile.write(data)


def use(hub: LocalHub, monkeypatch, cache) -> None:
    """Let huggingface_hub, which has read its environment already, talk to the local hub and keep an own cache."""
    for name in ("hf_api", "file_download", "_snapshot_download"):
        importlib.import_module(f"huggingface_hub.{name}")
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    template = hub.endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    values = {
        "ENDPOINT": hub.endpoint,
        "HUGGINGFACE_CO_URL_TEMPLATE": template,
        "HF_HUB_OFFLINE": False,
        "HF_HUB_CACHE": str(cache),
    }
    for name, module in list(sys.modules.items()):
        if name.startswith("huggingface_hub"):
            for key, value in values.items():
                if key in vars(module):
                    monkeypatch.setattr(module, key, value)
    reset_sessions()
