"""A server that wandb's real client takes for wandb's own, on the loopback, which remembers what it is sent.

It answers as far as runs, files, artifacts and views need it; what it does not know is in ``unknown``.
"""

import gzip
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "0123456789abcdef0123456789abcdef01234567"
ENTITY = "tester"


@dataclass
class Run:
    """What was sent of a run."""

    facts: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None


class Server:
    """Starts at once, at a free port or the one given, and stops without a word to its clients."""

    def __init__(self, port: int = 0) -> None:
        self.runs: dict[str, Run] = {}
        self.artifacts: dict[str, dict[str, Any]] = {}
        self.views: list[dict[str, Any]] = []
        self.unknown: list[str] = []
        self.lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                server.answer(self, server.post(self.path, _body(self)))

            def do_PUT(self) -> None:
                server.put(self.path, _body(self))
                server.answer(self, {})

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self.port = self.http.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True)
        self.thread.start()

    def stop(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    def answer(self, handler: BaseHTTPRequestHandler, content: dict[str, Any]) -> None:
        text = json.dumps(content).encode()
        handler.send_response(200)
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text)

    def run(self, name: str) -> Run:
        return self.runs.setdefault(name, Run())

    def artifact(self, name: str) -> dict[str, bytes]:
        """Files of the one committed artifact whose name begins so."""
        committed = [a for a in self.artifacts.values() if a["committed"]]
        (files,) = [a["files"] for a in committed if a["artifactCollectionName"].startswith(name)]
        return files

    def post(self, path: str, body: bytes) -> dict[str, Any]:
        with self.lock:
            if path == "/graphql":
                asked = json.loads(body)
                operation = re.search(r"(?:query|mutation)\s+(\w+)", asked["query"])
                found = self.graphql(operation.group(1) if operation else "", asked.get("variables") or {})
                return {"data": found}
            if match := re.fullmatch(r"/files/[^/]+/[^/]+/([^/]+)/file_stream", path):
                self.stream(self.run(match.group(1)), json.loads(body))
            elif not path.startswith("/sdk/otel/"):  # telemetry
                self.unknown.append(path)
            return {}

    def put(self, path: str, body: bytes) -> None:
        _, _, kind, name, file = path.split("/", 4)
        with self.lock:
            files = self.run(name).files if kind == "run" else self.artifacts[name]["files"]
            files[file] = body

    def stream(self, run: Run, sent: dict[str, Any]) -> None:
        for name, part in (sent.get("files") or {}).items():
            if name == "wandb-history.jsonl":
                del run.history[part["offset"] :]
                run.history += [json.loads(line) for line in part["content"]]
            elif name == "wandb-summary.json":
                run.summary |= json.loads(part["content"][-1])
        if sent.get("exitcode") is not None:
            run.exit_code = sent["exitcode"]

    def graphql(self, operation: str, given: dict[str, Any]) -> dict[str, Any]:
        """Answers by the method of that name: UpsertBucket by ``upsert_bucket``."""
        answer = getattr(self, re.sub("(?<!^)([A-Z])", r"_\1", operation).lower(), None)
        if answer is None:
            self.unknown.append(operation)
            return {}
        return answer(given)

    def viewer(self, given: dict[str, Any]) -> dict[str, Any]:
        viewer = {"id": "1", "entity": ENTITY, "username": ENTITY, "email": "", "flags": "{}"}
        return {"viewer": viewer | {"teams": {"edges": []}, "apiKeys": {"edges": []}, "admin": False}}

    def get_default_entity(self, given: dict[str, Any]) -> dict[str, Any]:
        return self.viewer(given)

    def server_features_query(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def run_resume_status(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"model": None}

    def upsert_bucket(self, given: dict[str, Any]) -> dict[str, Any]:
        run = self.run(given["name"])
        run.facts |= {key: value for key, value in given.items() if value is not None}
        if given.get("config"):
            run.config = {k: v["value"] for k, v in json.loads(given["config"]).items() if k != "_wandb"}
        project = {"id": "p", "name": given["project"], "entity": {"id": "e", "name": ENTITY}}
        bucket = {
            "id": given["name"], "name": given["name"], "displayName": run.facts.get("displayName"),
            "description": None, "sweepName": None, "project": project, "historyLineCount": len(run.history),
        }  # fmt: skip
        return {"upsertBucket": {"bucket": bucket, "inserted": True}}

    def create_run_files(self, given: dict[str, Any]) -> dict[str, Any]:
        run = given["run"]
        files = [
            {"name": name, "uploadUrl": f"{self.url}/storage/run/{run}/{name}"} for name in given["files"]
        ]
        return {"createRunFiles": {"runID": run, "uploadHeaders": [], "files": files}}

    def artifact_type(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"artifact": None}}

    def create_artifact(self, given: dict[str, Any]) -> dict[str, Any]:
        number = f"artifact{len(self.artifacts)}"
        self.artifacts[number] = {**given["input"], "files": {}, "committed": False}
        sequence = {"id": number, "latestArtifact": None}
        return {
            "createArtifact": {"artifact": {"id": number, "state": "PENDING", "artifactSequence": sequence}}
        }

    def _manifest(self, artifact: str) -> dict[str, Any]:
        url = f"{self.url}/storage/artifact/{artifact}/manifest"
        file = {"id": artifact, "name": "manifest", "uploadUrl": url, "uploadHeaders": []}
        return {"artifactManifest": {"id": artifact, "file": file}}

    def create_artifact_manifest(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"createArtifactManifest": self._manifest(given["artifactID"])}

    def update_artifact_manifest(self, given: dict[str, Any]) -> dict[str, Any]:
        return {"updateArtifactManifest": self._manifest(given["artifactManifestID"])}

    def create_artifact_files(self, given: dict[str, Any]) -> dict[str, Any]:
        asked = given["input"]["artifactFiles"]
        nodes = [
            {
                "storagePath": file["name"],
                "uploadUrl": f"{self.url}/storage/artifact/{file['artifactID']}/{file['name']}",
                "uploadHeaders": [],
                "uploadMultipartUrls": None,
                "artifact": {"id": file["artifactID"]},
            }
            for file in asked
        ]
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def commit_artifact(self, given: dict[str, Any]) -> dict[str, Any]:
        self.artifacts[given["artifactID"]]["committed"] = True
        return {"commitArtifact": {"artifact": {"id": given["artifactID"], "digest": "0"}}}

    def upsert_view2(self, given: dict[str, Any]) -> dict[str, Any]:
        self.views.append(given)
        return {"upsertView": {"view": {"id": "v", "name": given["name"]}, "inserted": True}}


@contextmanager
def serving(port: int = 0) -> Iterator[Server]:
    """A server while the body runs."""
    server = Server(port)
    try:
        yield server
    finally:
        server.stop()


def _body(handler: BaseHTTPRequestHandler) -> bytes:
    body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    return gzip.decompress(body) if handler.headers.get("Content-Encoding") == "gzip" else body
