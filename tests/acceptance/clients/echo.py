"""A web server on port 8080 that tells what it was asked, and a stream that waits for its reader."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

released = threading.Event()


class Echo(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def body(self):
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline(), 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(parts)

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()

    def stream(self):
        """The second part comes once somebody has asked for /release."""
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.chunk(b"data: first\n\n")
        released.wait()
        self.chunk(b"data: second\n\n")
        self.chunk(b"")

    def answer(self):
        if self.path == "/stream":
            return self.stream()
        if self.path == "/release":
            released.set()
        names = ("Transfer-Encoding", "Content-Length", "Content-Type", "Range")
        told = {"method": self.command, "path": self.path, "body": self.body().decode(), **{n: self.headers.get(n) for n in names}}
        data = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("", 8080), Echo).serve_forever()
