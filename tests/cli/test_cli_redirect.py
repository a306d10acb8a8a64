"""``lowtide run`` against an address that sends on to another."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

from commands import lowtide, said, task, write_tasks


@contextmanager
def redirecting(status: int, to: str) -> Iterator[tuple[str, list[str]]]:
    """A server that sends everything on; its base URL and what it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def _send_on(self) -> None:
            asked.append(f"{self.command} {self.path}")
            self.send_response(status)
            self.send_header("Location", to + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()

        do_GET = do_POST = _send_on  # noqa: N815 - the server looks for these names

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/v1", asked
        finally:
            server.shutdown()
            thread.join()


def test_a_run_names_the_address_that_it_is_sent_on_to_and_sends_nothing_there(tmp_path):
    tasks = write_tasks(tmp_path / "tasks.jsonl", [task("a")])
    with redirecting(200, "") as (elsewhere, reached):
        there = elsewhere.removesuffix("/v1")
        with redirecting(307, there) as (here, _):
            ended = lowtide(
                "run", tasks, "--out", tmp_path / "out", "--base-url", here, OPENAI_API_KEY="sk-canary-0123456789"
            )
    assert ended.code == 1
    line = said(ended)
    assert line.startswith(f"{here.removesuffix('/v1')} redirects to {there}. ")
    assert f"give {there} as the base URL" in line
    assert "sk-canary" not in ended.err
    assert reached == []
    assert not (tmp_path / "out").exists()
