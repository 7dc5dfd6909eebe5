"""A server on loopback that speaks as much of W&B's protocol as the client needs: GraphQL, the file stream, uploads.

What it answers was recorded between the client (0.31) and a server. It keeps what it is told, run by run.
"""

import gzip
import http.server
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Shown:
    """What the server has of one run; its exit code is None while it goes on, or where its client vanished."""

    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    told_config: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    exit_code: int | None = None

    @property
    def config(self) -> dict[str, Any]:
        """The configuration as a person sees it."""
        return {key: item["value"] for key, item in self.told_config.items() if key != "_wandb"}

    def rows(self, key: str) -> list[tuple[int, Any]]:
        """(step, value) of each row that has the key."""
        return [(row["_step"], row[key]) for row in self.history if key in row]


@dataclass
class Server:
    """The runs by id, and every byte that came."""

    url: str = ""
    runs: dict[str, Shown] = field(default_factory=dict)
    heard: list[bytes] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)
    lock: Any = field(default_factory=threading.Lock)

    def answer(self, name: str, variables: dict[str, Any]) -> dict[str, Any]:
        """The data of a GraphQL answer."""
        known = getattr(self, f"_{name}", None)
        if known is None:
            self.unknown.append(name)
            return {}
        return dict(known(variables))

    def _Viewer(self, _: dict[str, Any]) -> dict[str, Any]:
        teams = {"edges": [{"node": {"name": "team"}}]}
        return {"viewer": {"id": "1", "entity": "team", "username": "me", "email": "", "flags": "{}", "teams": teams}}

    def _ServerFeaturesQuery(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"serverInfo": {"features": []}}

    def _ArtifactType(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"project": {"artifact": None}}

    def _UpsertBucket(self, variables: dict[str, Any]) -> dict[str, Any]:
        name = variables["name"]
        inserted = name not in self.runs
        begins = variables["id"] is None and variables.get("groupName") is not None
        if inserted or begins:
            self.runs[name] = Shown()
        run = self.runs[name]
        run.exit_code = None
        if variables.get("config"):
            run.told_config = json.loads(variables["config"])
        entity = {"id": "team", "name": "team"}
        bucket = {
            "id": name, "name": name, "displayName": name, "description": "", "config": variables.get("config") or "{}",
            "sweepName": None, "project": {"id": "1", "name": variables["project"], "entity": entity},
            "historyLineCount": len(run.history),
        }  # fmt: skip
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def _CreateArtifact(self, variables: dict[str, Any]) -> dict[str, Any]:
        artifact = {"id": variables["input"]["runName"], "state": "PENDING", "artifactSequence": {}}
        return {"createArtifact": {"artifact": artifact}}

    def _CreateArtifactFiles(self, variables: dict[str, Any]) -> dict[str, Any]:
        asked = [(file["artifactID"], file["name"]) for file in variables["input"]["artifactFiles"]]
        nodes = [{"uploadUrl": f"{self.url}/upload/{run}/{name}", "artifact": {"id": run}} for run, name in asked]
        return {"createArtifactFiles": {"files": {"edges": [{"node": node} for node in nodes]}}}

    def _CreateArtifactManifest(self, variables: dict[str, Any]) -> dict[str, Any]:
        file = {"id": "1", "uploadUrl": f"{self.url}/upload/{variables['runName']}/manifest.json"}
        return {"createArtifactManifest": {"artifactManifest": {"id": "1", "file": file}}}

    def _CommitArtifact(self, _: dict[str, Any]) -> dict[str, Any]:
        return {"commitArtifact": {"artifact": {"id": "1", "digest": ""}}}

    def _CreateRunFiles(self, variables: dict[str, Any]) -> dict[str, Any]:
        run = variables["run"]
        files = [{"name": name, "uploadUrl": f"{self.url}/upload/{run}/{name}"} for name in variables["files"]]
        return {"createRunFiles": {"runID": run, "uploadHeaders": [], "files": files}}

    def stream(self, name: str, message: dict[str, Any]) -> None:
        """Lines take their places by their offset, as they do at W&B."""
        run = self.runs[name]
        if part := message.get("files", {}).get("wandb-history.jsonl"):
            lines = [json.loads(line) for line in part["content"]]
            run.history[part["offset"] :] = lines
        if part := message.get("files", {}).get("wandb-summary.json"):
            run.summary = json.loads(part["content"][-1])
        if message.get("complete"):
            run.exit_code = message["exitcode"]


@contextmanager
def wandb_server() -> Iterator[Server]:
    """A server that runs during the block."""
    server = Server()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self._body()
            with server.lock:
                if self.path.endswith("/file_stream"):
                    server.stream(self.path.split("/")[-2], json.loads(body))
                    self._reply({"exitcode": None, "limits": {}})
                else:
                    asked = json.loads(body)
                    (name,) = re.findall(r"^\s*(?:query|mutation)\s+(\w+)", asked["query"])[:1] or ["?"]
                    self._reply({"data": server.answer(name, asked.get("variables") or {})})

        def do_PUT(self) -> None:
            body = self._body()
            _, _, run, name = self.path.split("/", 3)
            server.runs[run].files[name] = body
            self._reply({})

        def _body(self) -> bytes:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
            server.heard.append(body + repr(sorted(self.headers.items())).encode())
            return body

        def _reply(self, content: dict[str, Any]) -> None:
            text = json.dumps(content).encode()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:
            pass

    class Quiet(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, *_: object) -> None:
            """A client that was killed resets its connections."""

    served = Quiet(("127.0.0.1", 0), Handler)
    server.url = f"http://127.0.0.1:{served.server_port}"
    threading.Thread(target=served.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        served.shutdown()
        served.server_close()
