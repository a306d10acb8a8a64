"""A server of batches that speaks the protocol its own way, as those in docs/compatibility.md do."""

from __future__ import annotations

import json

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route


class CompatibleServer:
    """One batch that ends at once. ``fails``: texts whose lines fail; ``errors``: the whole batch fails with this.

    It writes its statuses in capitals, keeps no metadata, sends bodies as text and errors without a code, lists
    without ``has_more``, always makes an error file, and deletes nothing.
    """

    def __init__(self, *, fails: frozenset[str] = frozenset(), errors: object = None) -> None:
        self.fails = fails
        self.errors = errors
        self.files: dict[str, tuple[str, bytes]] = {}
        self.batch: dict[str, object] | None = None
        self.app = Starlette(
            routes=[
                Route("/v1/files", self._upload, methods=["POST"]),
                Route("/v1/files", self._files),
                Route("/v1/files/{file_id}", self._file),
                Route("/v1/files/{file_id}/content", self._content),
                Route("/v1/batches", self._create, methods=["POST"]),
                Route("/v1/batches", self._batches),
                Route("/v1/batches/{batch_id}", self._batch),
            ]
        )

    async def _upload(self, request: Request) -> Response:
        async with request.form() as form:
            file = form["file"]
            if isinstance(file, str):
                return _detail(422, "no file")
            self.files["in"] = (file.filename or "", await file.read())
        return JSONResponse(self._row("in"))

    async def _files(self, _: Request) -> Response:
        return JSONResponse({"data": [self._row(file_id) for file_id in self.files], "first_id": "", "last_id": ""})

    async def _file(self, request: Request) -> Response:
        file_id = request.path_params["file_id"]
        return JSONResponse(self._row(file_id)) if file_id in self.files else _detail(404, "Not Found")

    async def _content(self, request: Request) -> Response:
        return Response(self.files[request.path_params["file_id"]][1], media_type="application/octet-stream")

    async def _create(self, request: Request) -> Response:
        order = await request.json()
        lines = [json.loads(line) for line in self.files[order["input_file_id"]][1].splitlines()]
        results = [self._result(line) for line in lines]
        failed = [line for line in results if "error" in line]
        self.files["out"] = ("out.jsonl", _jsonl([line for line in results if "error" not in line]))
        self.files["err"] = ("err.jsonl", _jsonl(failed))
        self.batch = {
            "id": "batch-1",
            "status": "COMPLETED" if self.errors is None else "FAILED",
            "input_file_id": "in",
            "output_file_id": "out",
            "error_file_id": "err",
            "metadata": None,
            "usage": None,
        }
        if self.errors is not None:
            self.batch |= {"errors": self.errors, "output_file_id": None, "error_file_id": None}
        return JSONResponse({"id": "batch-1", "status": "VALIDATING"})

    async def _batches(self, _: Request) -> Response:
        return JSONResponse({"data": [self.batch] if self.batch else []})

    async def _batch(self, request: Request) -> Response:
        known = self.batch is not None and request.path_params["batch_id"] == self.batch["id"]
        return JSONResponse(self.batch) if known else _detail(404, "Not Found")

    def _row(self, file_id: str) -> dict[str, object]:
        name, content = self.files[file_id]
        return {"id": file_id, "filename": name, "bytes": len(content)}

    def _result(self, line: dict[str, object]) -> dict[str, object]:
        if line["custom_id"] in self.fails:
            return {"custom_id": line["custom_id"], "error": {"type": "request_failed", "message": "dropped"}}
        choices = [{"message": {"content": "An answer."}}]
        body = json.dumps({"choices": choices, "usage": {"prompt_tokens": 1, "completion_tokens": 2}})
        return {"custom_id": line["custom_id"], "response": {"status_code": 200, "body": body}}


def _jsonl(lines: list[dict[str, object]]) -> bytes:
    """No newline after the last."""
    return "\n".join(json.dumps(line) for line in lines).encode()


def _detail(status: int, text: str) -> Response:
    return JSONResponse({"detail": text}, status_code=status)
