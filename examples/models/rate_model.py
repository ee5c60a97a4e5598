#!/usr/bin/env python3
"""An example of a rate model for chronotick-daemon: another process, with the standard library only.

    rate_model.py /run/my-model/rate.sock

The daemon connects to that Unix socket and sends one line of JSON for each forecast that it wants; the answer is one
line. docs/models.md has the contract. This model fits a straight line through the rates of the last half hour, the newest
weighted most, reads it five minutes from now (the middle of the ten that are asked for), and claims what the rates
scatter around the line. It is an example: the daemon's own models know as much.
"""

import json
import math
import os
import socketserver
import sys

HALF_HOUR_S = 1800.0
MEMORY_S = 600.0
AHEAD_S = 300.0
FEWEST = 8
SIGMA_FLOOR_PPB = 20.0


def forecast(request):
    """The answer to one request."""
    now_s = request["now_s"]
    rows = [row for row in request["history"] if now_s - row["t_s"] <= HALF_HOUR_S]
    if len(rows) < FEWEST:
        return {"none": True}
    times = [row["t_s"] - now_s for row in rows]
    rates = [row["rate_ppb"] for row in rows]
    # A rate that was hardly known when it was measured weighs little.
    weights = [math.exp(t / MEMORY_S) / (SIGMA_FLOOR_PPB**2 + row["sigma_ppb"] ** 2) for t, row in zip(times, rows)]
    total = sum(weights)
    time = sum(w * t for w, t in zip(weights, times)) / total
    rate = sum(w * r for w, r in zip(weights, rates)) / total
    spread = sum(w * (t - time) ** 2 for w, t in zip(weights, times)) / total
    slope = sum(w * (t - time) * (r - rate) for w, t, r in zip(weights, times, rates)) / total / max(spread, 1.0)
    scatter = sum(w * (r - rate - slope * (t - time)) ** 2 for w, t, r in zip(weights, times, rates)) / total
    ahead_s = AHEAD_S - time
    # Half of the way that the line goes until then is not to be relied on.
    sigma = math.sqrt(scatter + (slope * ahead_s / 2.0) ** 2 + SIGMA_FLOOR_PPB**2)
    return {"rate_ppb": rate + slope * ahead_s, "sigma_ppb": sigma, "valid_for_s": 300}


class Connection(socketserver.StreamRequestHandler):
    """One connection of the daemon, for as long as it lasts."""

    def handle(self):
        for line in self.rfile:
            request = json.loads(line)
            if request.get("version") != 1:
                return
            self.wfile.write(json.dumps(forecast(request)).encode() + b"\n")


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


def main():
    if len(sys.argv) != 2:
        sys.exit(f"usage: {sys.argv[0]} SOCKET")
    path = sys.argv[1]
    if os.path.exists(path):
        os.unlink(path)
    # Whoever can connect learns temperature and load of the machine: the owner and the group.
    os.umask(0o117)
    with Server(path, Connection) as server:
        print(f"listening on {path}", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
