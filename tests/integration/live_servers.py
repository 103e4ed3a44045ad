"""Live sources for tests: a video as MPEG-TS over HTTP and over RTSP, at about the speed of its frames."""

from __future__ import annotations

import io
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import av

_PACKET = 188
_TOGETHER = 7 * _PACKET  # what fits a network packet
_SDP = "\r\n".join(
    ["v=0", "o=- 0 0 IN IP4 127.0.0.1", "s=camera", "t=0 0", "m=video 0 RTP/AVP 33", "a=control:track", ""]
)


def transport_stream(video: Path) -> bytes:
    """The video track of a file as MPEG-TS, its pictures unchanged."""
    buffer = io.BytesIO()
    with av.open(str(video)) as source, av.open(buffer, "w", format="mpegts") as target:
        track = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                packet.stream = track
                target.mux(packet)
    return buffer.getvalue()


@contextmanager
def http_camera(content: bytes, seconds: float) -> Iterator[str]:
    """Address of a server that gives `content` to each client, spread over `seconds`."""

    class Camera(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "video/mp2t")
            self.send_header("Connection", "close")
            self.end_headers()
            _spread(content, seconds, stop, self.wfile.write)

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    stop = threading.Event()
    with _serving(ThreadingHTTPServer(("127.0.0.1", 0), Camera), stop) as port:
        yield f"http://127.0.0.1:{port}/live.ts"


@contextmanager
def rtsp_camera(content: bytes, seconds: float) -> Iterator[str]:
    """Address of an RTSP server (RFC 2326) that sends `content` as RTP in the connection itself, and not over UDP."""

    class Camera(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while request := self._request():
                answer = self._answer(request)
                self.wfile.write(f"RTSP/1.0 {answer[0]}\r\nCSeq: {request['cseq']}\r\n{answer[1]}".encode())
                if request["method"] == "PLAY":
                    _spread(content, seconds, stop, self._send)
                    return

        def _request(self) -> dict[str, str]:
            lines = []
            while line := self.rfile.readline().decode().strip():
                lines.append(line)
            if not lines:
                return {}
            fields = dict(line.lower().split(": ", 1) for line in lines[1:])
            return {"method": lines[0].split()[0], **fields}

        def _answer(self, request: dict[str, str]) -> tuple[str, str]:
            match request["method"]:
                case "OPTIONS":
                    return "200 OK", "Public: DESCRIBE, SETUP, PLAY\r\n\r\n"
                case "DESCRIBE":
                    return "200 OK", f"Content-Type: application/sdp\r\nContent-Length: {len(_SDP)}\r\n\r\n{_SDP}"
                case "SETUP" if "rtp/avp/tcp" in request["transport"]:
                    self._sent = 0
                    return "200 OK", "Transport: RTP/AVP/TCP;unicast;interleaved=0-1\r\nSession: 1\r\n\r\n"
                case "SETUP":
                    return "461 Unsupported Transport", "\r\n"
                case "PLAY":
                    return "200 OK", "Session: 1\r\n\r\n"
            return "501 Not Implemented", "\r\n"

        def _send(self, payload: bytes) -> None:
            header = struct.pack(">BBHII", 0x80, 33, self._sent & 0xFFFF, 0, 1)
            self.wfile.write(struct.pack(">cBH", b"$", 0, len(header) + len(payload)) + header + payload)
            self._sent += 1

    stop = threading.Event()
    server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Camera)
    server.daemon_threads = True
    with _serving(server, stop) as port:
        yield f"rtsp://user:secret@127.0.0.1:{port}/live"


def _spread(content: bytes, seconds: float, stop: threading.Event, write: Callable[[bytes], object]) -> None:
    pieces = range(0, len(content), _TOGETHER)
    try:
        for place in pieces:
            write(content[place : place + _TOGETHER])
            if stop.wait(seconds / len(pieces)):
                return
    except OSError:  # the client has gone
        pass


@contextmanager
def _serving(server: socketserver.TCPServer, stop: threading.Event) -> Iterator[int]:
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        stop.set()
        server.shutdown()
        server.server_close()
        thread.join()
