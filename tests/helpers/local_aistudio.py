"""AI Studio on this machine: the endpoints that aistudio-sdk 0.2.6 asks for uploads and downloads, and the list of
files that its later releases ask for. `tests/hub/test_aistudio_sdk.py` holds it against the SDK itself."""

import base64
import hashlib
import json
from urllib.parse import parse_qs, unquote, urlsplit

from helpers.local_server import LocalServer

TOKEN = "aistudio-right"
COMMIT = "d" * 40


class LocalAIStudio(LocalServer):
    """Repositories in memory, served over HTTP; a context manager.

    Attributes:
        endpoint: its address: of the git server and of the service.
        repositories: "me/cat" -> path -> bytes.
        hidden: repositories that their owner shows to nobody yet.
        private: repositories that want a token.
        licenses: what the repositories were made with.
        large: endings of the files that are to go through large file storage.
        refused: part of a path -> status with which requests to it are refused.
        answers: part of a path -> bytes that are answered instead.
        cut: endings of the files of which only half is sent.
        requests: what was asked, "GET /api/v1/user" and the like.
        tokens: (path, what a request named as its token).
    """

    def __init__(self):
        self.repositories: dict[str, dict[str, bytes]] = {}
        self.hidden, self.private, self.licenses = set(), set(), {}
        self.large, self.refused, self.answers, self.cut = (".png", ".safetensors"), {}, {}, ()
        self.requests, self.tokens = [], []
        self._objects: dict[str, bytes] = {}

    def environment(self, token: str | None = TOKEN) -> dict[str, str]:
        """The variables with which the SDK, and this project, ask this server."""
        where = {"STUDIO_GIT_HOST": self.endpoint, "STUDIO_MODEL_API_URL_PREFIX": self.endpoint, "HF_HUB_OFFLINE": "0"}
        return where if token is None else where | {"AISTUDIO_ACCESS_TOKEN": token}

    def _answer(self, request) -> None:
        parts = urlsplit(request.path)
        path, query = unquote(parts.path), {name: values[0] for name, values in parse_qs(parts.query).items()}
        body = request.rfile.read(int(request.headers.get("Content-Length") or 0))
        token = (request.headers.get("Authorization") or "").removeprefix("token ").strip()
        self.requests.append(f"{request.command} {path}")
        self.tokens.append((path, token))
        for part, status in self.refused.items():
            if part in path:
                return _send(request, {"message": "refused\nfor now"}, status)
        for part, answer in self.answers.items():
            if part in path:
                return _send(request, answer)
        if path.startswith("/objects/"):
            return self._object(request, path, body)
        if path.endswith("/checkPermit"):
            seen = query["repoId"] in self.repositories and query["repoId"] not in self.hidden
            return _send(request, {"errorCode": 0} if seen else {"errorCode": 7, "errorMsg": "no permit", "logId": "1"})
        if path.endswith("/sdk/add"):
            return self._make(request, token, json.loads(body))
        if path == "/api/v1/user":
            return self._with(request, token, lambda: {"login": "me"})
        if path.endswith("/verify"):
            asked = json.loads(body)
            whole = len(self._objects.get(asked["oid"], b"")) == asked["size"]
            return _send(request, {"verified": True} if whole else {"message": "no such object"}, 200 if whole else 404)
        self._of_repository(request, path, query, token, body)

    def _with(self, request, token, answer) -> None:
        """An answer that only a token gets."""
        if token != TOKEN:
            return _send(request, {"message": "invalid token"}, 401)
        _send(request, answer())

    def _object(self, request, path, body) -> None:
        """Large file storage, which knows no tokens."""
        oid = path.removeprefix("/objects/")
        if request.command == "PUT":
            assert hashlib.sha256(body).hexdigest() == oid
            self._objects[oid] = body
            return _send(request, b"", headers={"Content-Md5": "x"})
        _send(request, self._objects[oid])

    def _make(self, request, token, asked) -> None:
        if token != TOKEN:
            return _send(request, {"errorCode": 401, "errorMsg": "bad token", "logId": "1"})
        name = f"me/{asked['repoName']}"
        if name in self.repositories:
            return _send(request, {"errorCode": 8, "errorMsg": "repo already created", "logId": "1"})
        self.repositories[name], self.licenses[name] = {}, asked["license"]
        fields = ("modelName", "repoName", "repoType", "desc", "license")
        _send(request, {"errorCode": 0, "result": {field: asked[field] for field in fields}})

    def _of_repository(self, request, path, query, token, body) -> None:
        words = path.removeprefix("/api/v1/repos").strip("/").split("/")
        name = "/".join(words[:2]).removesuffix(".git")
        if name not in self.repositories or (name in self.private and token != TOKEN):
            return _send(request, {"message": "The target couldn't be found."}, 404)
        files, rest = self.repositories[name], "/".join(words[3:])
        if words[2] == "git":
            if query.get("page") != "1" or words[4] not in ("master", COMMIT):
                return _send(request, {"message": "no such tree"}, 404)
            folders = sorted({path.rpartition("/")[0] for path in files} - {""})
            tree = [{"path": path, "type": "tree", "sha": COMMIT} for path in folders]
            tree += [{"path": path, "type": "blob", "sha": _sha(files[path]), "size": 1} for path in sorted(files)]
            return _send(request, {"sha": COMMIT, "tree": tree, "truncated": False})
        if words[2] == "media":
            return self._media(
                request, files.get(rest) if query.get("ref", "master") in ("master", COMMIT) else None, rest
            )
        if words[2] == "contents" and request.command == "GET":
            if rest not in files:
                return _send(request, {"message": "no such file"}, 404)
            return _send(request, {"sha": _sha(files[rest]), "last_commit_sha": COMMIT, "path": rest})
        self._with(request, token, lambda: self._write(request, files, name, words, rest, json.loads(body)))

    def _media(self, request, content, path) -> None:
        if content is None:
            return _send(request, {"message": "no such file"}, 404)
        if path.endswith(self.large):
            oid = hashlib.sha256(content).hexdigest()
            self._objects[oid] = content
            return _send(request, b"", 302, {"Location": f"{self.endpoint}/objects/{oid}"})
        _send(request, content, cut=path.endswith(self.cut) if self.cut else False)

    def _write(self, request, files, name, words, rest, asked):
        if words[2] == "preupload":
            return {"files": [{"path": one["path"], "lfs": one["path"].endswith(self.large)} for one in asked["files"]]}
        if words[2] == "info":
            (one,) = asked["objects"]
            there = {"href": f"{self.endpoint}/objects/{one['oid']}"}
            actions = {"upload": there, "verify": {"href": f"{self.endpoint}/{name}.git/info/lfs/verify"}}
            return {"objects": [one | ({} if one["oid"] in self._objects else {"actions": actions})]}
        assert words[2] == "contents" and asked["branch"] == "master" and asked["message"]
        assert (request.command == "PUT") == (rest in files)
        assert request.command == "POST" or asked["sha"] == _sha(files[rest])
        content = base64.b64decode(asked["content"])
        if asked.get("lfsPointer"):
            oid = content.split(b"sha256:")[1].split()[0].decode()
            assert content.endswith(b"size %d" % len(self._objects[oid]))
            content = self._objects[oid]
        files[rest] = content
        return {"content": {"path": rest}}


def _sha(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _send(request, content, status: int = 200, headers: dict | None = None, cut: bool = False) -> None:
    data = content if isinstance(content, bytes) else json.dumps(content).encode()
    request.send_response(status)
    for name, value in {"Content-Length": str(len(data)), **(headers or {})}.items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(data[: len(data) // 2] if cut else data)
    if cut:
        request.close_connection = True


def use(hub: LocalAIStudio, monkeypatch, home, token: str | None = TOKEN) -> None:
    """Let this process ask the local server, with an own home folder."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for name in ("AISTUDIO_ACCESS_TOKEN", "AISTUDIO_CACHE_HOME", "SKIP_REPO_VISIBLE_CHECK", "CURRENT_ENV"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"HOME": str(home)} | hub.environment(token)).items():
        monkeypatch.setenv(name, value)
