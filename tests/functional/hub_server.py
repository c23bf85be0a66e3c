"""A stand-in for the Hugging Face Hub: its HTTP protocol of model repositories, branches, commits, LFS files and downloads."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from aiohttp import web

from tests.server_in_thread import ServerInThread

TOKEN = "hf_test0123456789"


class HubServer(ServerInThread):
    """Repositories in memory: by name, whether they are private, their branches, and the files of each commit."""

    path = ""

    def __init__(self) -> None:
        self.private: dict[str, bool] = {}
        self.branches: dict[str, dict[str, str]] = {}
        self.commits: dict[str, dict[str, bytes]] = {}
        self.objects: dict[str, bytes] = {}
        self.failing: list[tuple[str, int]] = []
        """The next failures: each a part of a method and path, and the status."""
        self.asked: list[str] = []
        self.begin()

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64_000_000)
        name = "{owner}/{name}"
        for method, path, handle in (
            ("POST", "/api/repos/create", self._create),
            ("POST", "/api/validate-yaml", self._yaml),
            ("GET", f"/api/models/{name}", self._info),
            ("GET", f"/api/models/{name}/revision/{{revision}}", self._info),
            ("GET", f"/api/models/{name}/tree/{{revision}}", self._tree),
            ("POST", f"/api/models/{name}/branch/{{revision}}", self._branch),
            ("POST", f"/api/models/{name}/preupload/{{revision}}", self._preupload),
            ("POST", f"/api/models/{name}/commit/{{revision}}", self._commit),
            ("POST", "/{owner}/{name}.git/info/lfs/objects/batch", self._batch),
            ("PUT", "/lfs/{oid}", self._object),
            ("HEAD", f"/{name}/resolve/{{revision}}/{{file}}", self._file),
            ("GET", f"/{name}/resolve/{{revision}}/{{file}}", self._file),
        ):
            app.router.add_route(method, path, self._kept(handle))
        app.router.add_route("*", "/{rest:.*}", self._kept(self._unknown))
        return app

    def _kept(self, handle: Any) -> Any:
        async def handled(request: web.Request) -> web.StreamResponse:
            place = f"{request.method} {request.path}"
            self.asked.append(place)
            if self.failing and self.failing[0][0] in place:
                return web.json_response({"error": "the Hub is down"}, status=self.failing.pop(0)[1])
            if request.method == "POST" and request.headers.get("authorization") != f"Bearer {TOKEN}":
                return web.json_response({"error": "Invalid username or password."}, status=401)
            found: web.StreamResponse = await handle(request)
            return found

        return handled

    async def _unknown(self, request: web.Request) -> web.Response:
        return web.json_response({"error": f"no route {request.path}"}, status=404)

    def _named(self, request: web.Request) -> str:
        return f"{request.match_info['owner']}/{request.match_info['name']}"

    def _revision(self, request: web.Request) -> str | None:
        """Return the commit of a request's revision; None where there is none."""
        repository, revision = self._named(request), request.match_info.get("revision", "main")
        known = self.branches.get(repository, {})
        return known.get(revision, revision if revision in known.values() or revision in self.commits else None)

    def _missing(self, request: web.Request) -> web.Response:
        code = "RevisionNotFound" if self._named(request) in self.private else "RepoNotFound"
        return web.json_response({"error": "not found"}, status=404, headers={"X-Error-Code": code})

    async def _create(self, request: web.Request) -> web.Response:
        body = await request.json()
        name = f"{body['organization']}/{body['name']}" if body.get("organization") else body["name"]
        if name in self.private:
            return web.json_response({"error": "exists", "url": f"{self.url}/{name}"}, status=409)
        self.private[name] = body.get("visibility") == "private" or body.get("private") is True
        first = hashlib.sha1(name.encode()).hexdigest()
        self.branches[name], self.commits[first] = {"main": first}, {}
        return web.json_response({"url": f"{self.url}/{name}", "name": name, "id": name})

    async def _yaml(self, request: web.Request) -> web.Response:
        return web.json_response({"errors": [], "warnings": []})

    async def _info(self, request: web.Request) -> web.Response:
        name, commit = self._named(request), self._revision(request)
        if name not in self.private or commit is None:
            return self._missing(request)
        files = [{"rfilename": file} for file in self.commits[commit]]
        return web.json_response(
            {"id": name, "sha": commit, "private": self.private[name], "siblings": files, "tags": []}
        )

    async def _tree(self, request: web.Request) -> web.Response:
        commit = self._revision(request)
        if commit is None:
            return self._missing(request)
        entries = [
            {"type": "file", "path": file, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
            for file, data in self.commits[commit].items()
        ]
        return web.json_response(entries)

    async def _branch(self, request: web.Request) -> web.Response:
        branches = self.branches[self._named(request)]
        branches.setdefault(request.match_info["revision"], branches["main"])
        return web.json_response({})

    async def _preupload(self, request: web.Request) -> web.Response:
        if self._revision(request) is None:
            return self._missing(request)
        files = (await request.json())["files"]
        shown = [
            {"path": file["path"], "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
             "shouldIgnore": False, "oid": None}
            for file in files
        ]  # fmt: skip
        return web.json_response({"files": shown})

    async def _batch(self, request: web.Request) -> web.Response:
        body = json.loads(await request.read())
        objects = [
            {**each, "actions": {"upload": {"href": f"{self.url}/lfs/{each['oid']}", "header": {}}}}
            for each in body["objects"]
        ]
        return web.json_response({"transfer": "basic", "objects": objects}, content_type="application/vnd.git-lfs+json")

    async def _object(self, request: web.Request) -> web.Response:
        data = await request.read()
        assert hashlib.sha256(data).hexdigest() == request.match_info["oid"]
        self.objects[request.match_info["oid"]] = data
        return web.Response()

    async def _commit(self, request: web.Request) -> web.Response:
        name, revision = self._named(request), request.match_info["revision"]
        lines = [json.loads(line) for line in (await request.read()).splitlines()]
        files = dict(self.commits[self.branches[name][revision]])
        for line in lines:
            if line["key"] == "file":
                files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            elif line["key"] == "lfsFile":
                files[line["value"]["path"]] = self.objects[line["value"]["oid"]]
        commit = hashlib.sha1(repr(sorted(files.items())).encode()).hexdigest()
        self.commits[commit] = files
        self.branches[name][revision] = commit
        url = f"{self.url}/{name}/commit/{commit}"
        return web.json_response({"success": True, "commitOid": commit, "commitUrl": url})

    async def _file(self, request: web.Request) -> web.Response:
        commit = self._revision(request)
        if commit is None:
            return self._missing(request)
        data = self.commits[commit].get(request.match_info["file"])
        if data is None:
            return web.json_response({"error": "no file"}, status=404, headers={"X-Error-Code": "EntryNotFound"})
        etag = f'"{hashlib.sha1(data).hexdigest()}"'
        return web.Response(body=data, headers={"ETag": etag, "X-Repo-Commit": commit})
