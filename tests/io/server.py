"""A small web server on the loopback that serves bytes, in part if asked."""

import contextlib
import http.server
import threading


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves `server.content`, and notes what was asked for.

    `server.cut` is after how many bytes the connection breaks; `server.ranges` is
    whether parts are served, `server.tag` the ETag.
    """

    def do_GET(self):
        server = self.server
        asked = self.headers.get("Range")
        server.asked.append(asked)
        if self.path != "/net.pth":
            return self.send_error(404)
        content, start = server.content, 0
        condition = self.headers.get("If-Range", server.tag)
        if asked and server.ranges and condition == server.tag:
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
            if start >= len(content):
                return self.send_error(416)
            self.send_response(206)
            last = len(content) - 1
            self.send_header("Content-Range", f"bytes {start}-{last}/{len(content)}")
        else:
            self.send_response(200)
        self.send_header("Content-Length", str(len(content) - start))
        if server.tag:
            self.send_header("ETag", server.tag)
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the client was killed
            for piece in range(start, min(start + server.cut, len(content)), 2**16):
                end = min(piece + 2**16, start + server.cut)
                self.wfile.write(content[piece:end])
                server.sent.wait(server.pause)

    def log_message(self, *_):
        pass


@contextlib.contextmanager
def serving(content):
    """Lends a server whose `url` is that of the content."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.asked = content, []
    server.sent, server.pause = threading.Event(), 0
    server.cut, server.ranges, server.tag = len(content), True, '"one"'
    server.url = f"http://127.0.0.1:{server.server_port}/net.pth"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
