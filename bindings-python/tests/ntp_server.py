"""A small NTP server on loopback, so that a daemon has somebody to ask. Run as a program it prints its port and serves until
its standard input ends: `python ntp_server.py [OFFSET_MS]`."""

import socket
import struct
import sys
import threading
import time

UNIX_EPOCH_S = 2_208_988_800


class NtpServer:
    """Answers each request with the system clock plus an offset."""

    def __init__(self, offset_s=0.0):
        self.offset_s = offset_s
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self.socket.getsockname()[1]}"
        threading.Thread(target=self.serve, daemon=True).start()

    def stamp(self):
        ns = time.time_ns() + round(self.offset_s * 1e9) + UNIX_EPOCH_S * 1_000_000_000
        return struct.pack(">II", ns // 1_000_000_000 & 0xFFFFFFFF, (ns % 1_000_000_000 << 32) // 1_000_000_000)

    def serve(self):
        while True:
            request, client = self.socket.recvfrom(512)
            received = self.stamp()
            if len(request) >= 48:
                head = struct.pack(">BBBbII4s", 0x24, 1, request[2], -20, 0, 0, b"TEST")
                self.socket.sendto(head + received + request[40:48] + received + self.stamp(), client)


if __name__ == "__main__":
    print(NtpServer(float(sys.argv[1]) / 1000 if len(sys.argv) > 1 else 0.0).address, flush=True)
    sys.stdin.read()
