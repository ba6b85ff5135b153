"""A page on port 8080 that opens a WebSocket to its own server, says something and shows the echo; all on the standard library."""
import base64
import hashlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# The address is relative: the page does not know below which path it is served.
PAGE = b"""<!doctype html><meta charset="utf-8"><title>echo</title><link rel="icon" href="data:,"><body><script>
const ws = new WebSocket(new URL("ws", location.href).href.replace(/^http/, "ws"));
ws.onopen = () => ws.send("hello");
ws.onmessage = (m) => document.body.append("echo of " + m.data);
</script></body>"""
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        if self.headers.get("Upgrade", "").lower() == "websocket":
            return self.echo()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(PAGE)))
        self.end_headers()
        self.wfile.write(PAGE)

    def echo(self):
        key = self.headers["Sec-WebSocket-Key"].encode()
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key + GUID).digest()).decode())
        self.end_headers()
        self.close_connection = True
        while True:  # short frames in one piece are all that the page sends
            head = self.rfile.read(2)
            if len(head) < 2 or head[0] & 15 == 8:
                return
            mask = self.rfile.read(4)
            text = bytes(b ^ mask[i % 4] for i, b in enumerate(self.rfile.read(head[1] & 127)))
            self.wfile.write(bytes([0x81, len(text)]) + text)


ThreadingHTTPServer(("0.0.0.0", 8080), Handler).serve_forever()
