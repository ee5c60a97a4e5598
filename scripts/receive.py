#!/usr/bin/env python3
"""Receives one webhook on 127.0.0.1:PORT and prints it. Usage: receive.py PORT [COUNT]"""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length", 0)))
        self.send_response(204)
        self.end_headers()
        print("webhook received, idempotency key", self.headers.get("idempotency-key"))
        print(json.dumps(json.loads(body), indent=2), flush=True)

    def log_message(self, *_):
        pass


port = int(sys.argv[1]) if len(sys.argv) > 1 else 9090
server = HTTPServer(("127.0.0.1", port), Receiver)
for _ in range(int(sys.argv[2]) if len(sys.argv) > 2 else 1):
    server.handle_request()
