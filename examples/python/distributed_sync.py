"""Processes that act at the same moment, on one machine or on several.

    python distributed_sync.py --followers 3                        all on this machine
    python distributed_sync.py --listen 0.0.0.0:7000 --wait-for 2   the leader, which waits for two followers
    python distributed_sync.py --join LEADER:7000                   a follower, on any machine with a clock daemon

The leader proposes a moment of corrected time; everybody waits for it on its own clock, acts, and reports when it did. No
message passes at the moment itself, so the network's delay does not matter.
"""

import argparse
import json
import socket
import subprocess
import sys

from chronotick import ChronoTickClient

MS = 1_000_000
LARGEST_LINE = 4096


def address(text):
    host, _, port = text.rpartition(":")
    return host, int(port)


def send(connection, message):
    connection.sendall(json.dumps(message).encode() + b"\n")


def receive(connection):
    line = connection.makefile("rb").readline(LARGEST_LINE)
    return json.loads(line)


def act_at(client, moment_ns):
    """Waits, acts, and says when that was and how far the clock may be off."""
    client.wait_until_ns(moment_ns)
    acted = client.now()
    # Here goes what is to be done at the same time everywhere.
    return {"acted_ns": acted.corrected_ns, "max_error_ns": acted.max_error_ns, "status": acted.status}


def follow(leader):
    with socket.create_connection(leader) as connection, ChronoTickClient() as client:
        # Attach now, not at the moment itself.
        client.wait_synchronized(timeout_s=30)
        send(connection, {"ready": True})
        send(connection, act_at(client, receive(connection)["moment_ns"]))


def lead(listen, followers, local, ahead_s):
    with ChronoTickClient() as client, socket.create_server(listen) as server:
        client.wait_synchronized(timeout_s=30)
        host, port = server.getsockname()[:2]
        command = [sys.executable, __file__, "--join", f"{host}:{port}"]
        children = [subprocess.Popen(command) for _ in range(local)]
        connections = [server.accept()[0] for _ in range(followers + local)]
        for connection in connections:
            receive(connection)
        moment_ns = client.now_ns() + round(ahead_s * 1e9)
        for connection in connections:
            send(connection, {"moment_ns": moment_ns})
        reports = [act_at(client, moment_ns), *map(receive, connections)]
        for connection in connections:
            connection.close()
        for child in children:
            child.wait()
    return moment_ns, reports


def main():
    parser = argparse.ArgumentParser(description="Processes that act at the same moment.")
    parser.add_argument("--listen", type=address, default=("127.0.0.1", 0), metavar="HOST:PORT")
    parser.add_argument("--wait-for", type=int, default=0, metavar="N", help="followers that join from elsewhere")
    parser.add_argument("--followers", type=int, default=0, metavar="N", help="followers to start on this machine")
    parser.add_argument("--join", type=address, metavar="HOST:PORT", help="follow the leader there")
    parser.add_argument("--ahead", type=float, default=0.5, metavar="S", help="how far ahead the moment is")
    options = parser.parse_args()
    if options.join:
        follow(options.join)
        return
    moment_ns, reports = lead(options.listen, options.wait_for, options.followers, options.ahead)
    for number, report in enumerate(reports):
        late_us = (report["acted_ns"] - moment_ns) / 1000
        print(f"process {number}: {late_us:+.1f} us, its clock at most {report['max_error_ns'] / MS:.3f} ms off")
    acted = [report["acted_ns"] for report in reports]
    spread_ns = max(acted) - min(acted)
    # Clocks of other machines may be off in opposite directions.
    off_ns = sum(sorted(report["max_error_ns"] for report in reports)[-2:])
    print(f"spread: {spread_ns / 1000:.1f} us by their own clocks; between machines at most {(spread_ns + off_ns) / MS:.3f} ms")


if __name__ == "__main__":
    main()
