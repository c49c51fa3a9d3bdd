# SPDX-License-Identifier: Apache-2.0
"""A language model's server that answers what it is told to."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class ChatModel:
    """An OpenAI-compatible server on loopback that answers what it is told to, in turn."""

    def __init__(self, answers: list[str | int]) -> None:
        self.answers = answers
        self.requests: list[dict] = []
        self.headers: list[dict[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.headers.append(dict(self.headers))
                length = int(self.headers["Content-Length"])
                outer.requests.append({"path": self.path, **json.loads(self.rfile.read(length))})
                answer = outer.answers[min(len(outer.requests), len(outer.answers)) - 1]
                if isinstance(answer, int):
                    self.send_response(answer)
                    self.send_header("Location", "http://127.0.0.1:9/v1")
                    self.send_header("Content-Length", "0")
                    self.end_headers()
                    return
                message = {"role": "assistant", "content": answer}
                choice = {"index": 0, "finish_reason": "stop", "message": message}
                body = {"id": "1", "object": "chat.completion", "created": 0, "model": "m",
                        "choices": [choice]}  # fmt: skip
                data = json.dumps(body).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
