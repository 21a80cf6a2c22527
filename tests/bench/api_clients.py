"""Clients of the API for the benchmark: `python -m tests.bench.api_clients PORT TOKEN WORK.json` prints a rate.

As little as a client can be, so that the service is what is measured: one connection each, requests written as bytes.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

OK = b"HTTP/1.1 200 "


async def client(port: int, requests: list[bytes]) -> int:
    """Send each request when the one before is answered; returns how many were stored."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    stored = 0
    for request in requests:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        body = await reader.readexactly(int(length.partition(b":")[2]))
        if not head.startswith(OK):
            sys.exit(body.decode())
        stored += 1
    writer.close()
    return stored


def request_of(path: str, body: str, token: str) -> bytes:
    """The bytes of a POST."""
    head = f"POST {path} HTTP/1.1\r\nHost: tower\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
    return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()


async def run(port: int, token: str, work: str) -> float:
    """Requests per second of all clients together."""
    ready = [[request_of(path, body, token) for path, body in each] for each in json.loads(work)]
    began = time.perf_counter()
    stored = await asyncio.gather(*(client(port, requests) for requests in ready))
    return sum(stored) / (time.perf_counter() - began)


if __name__ == "__main__":
    print(asyncio.run(run(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]).read_text())))
