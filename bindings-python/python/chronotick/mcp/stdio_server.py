"""`chronotick-stdio-server`: the clock's MCP server over stdio, or over streamable HTTP with `--http`."""

from __future__ import annotations

import argparse
import ipaddress
import logging
import socket
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mcp.server import Server

_BAD_USAGE = 2
_HTTP_PATH = "/mcp"
_SHUTDOWN_S = 2

_NOT_INSTALLED = """\
chronotick-stdio-server needs the mcp package, version 2 or later: {reason}
Install it with: pip install 'chronotick[mcp]'"""


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. Serves until its client closes stdin, or until SIGINT or SIGTERM."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(
        stream=sys.stderr,
        level=logging.DEBUG if options.debug else logging.WARNING,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    try:
        from chronotick.mcp.server import ClockServer
    except ImportError as e:
        print(_NOT_INSTALLED.format(reason=e), file=sys.stderr)
        return 1
    server = ClockServer().server
    try:
        if options.http is None:
            _serve_stdio(server)
            return 0
        host, port = options.http
        return _serve_http(server, host, port, options.allow_remote_without_auth, options.debug)
    except KeyboardInterrupt:
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="chronotick-stdio-server",
        description="Serves the clock to MCP clients over stdio, or over streamable HTTP.",
        epilog="The clock page is $CHRONOTICK_SHM, else chronotick_shm. With MINOOTS_URL=http://HOST:PORT the tool "
        "schedule_action also makes durable timers there.",
    )
    parser.add_argument("--debug", action="store_true", help="log every message to stderr")
    parser.add_argument(
        "--http", type=_address, metavar="HOST:PORT", help=f"serve http://HOST:PORT{_HTTP_PATH}; port 0 takes a free one"
    )
    parser.add_argument(
        "--allow-remote-without-auth",
        action="store_true",
        help="listen on an address that other machines reach, though nobody is asked who they are",
    )
    return parser


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isascii() or not port.isdigit() or int(port) > 65_535:
        raise argparse.ArgumentTypeError(f"{text!r} is not HOST:PORT, such as 127.0.0.1:8765")
    return host, int(port)


def _serve_stdio(server: Server[Any]) -> None:
    import anyio
    from mcp.server.stdio import stdio_server

    async def serve() -> None:
        async with stdio_server() as (incoming, outgoing):
            await server.run(incoming, outgoing, server.create_initialization_options())

    anyio.run(serve)


def _serve_http(server: Server[Any], host: str, port: int, allow_remote: bool, debug: bool) -> int:
    import uvicorn

    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        loopback = ipaddress.ip_address(address[0]).is_loopback
        if not loopback and not allow_remote:
            print(
                f"{host} can be reached from other machines, and nobody is asked who they are: "
                "give 127.0.0.1, or --allow-remote-without-auth",
                file=sys.stderr,
            )
            return _BAD_USAGE
        # With the protocol named: else asyncio leaves Nagle's algorithm on, and each answer waits 40 ms for an ACK.
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen()
    except OSError as e:
        print(f"cannot listen on {host}:{port}: {e.strerror or e}: give another --http HOST:PORT", file=sys.stderr)
        return 1
    # On loopback the SDK lets in only requests that name this machine, against DNS rebinding.
    app = server.streamable_http_app(streamable_http_path=_HTTP_PATH, host="127.0.0.1" if loopback else host)
    config = uvicorn.Config(
        app, log_level="debug" if debug else "warning", timeout_graceful_shutdown=_SHUTDOWN_S, ws="none"
    )
    shown = f"[{address[0]}]" if family == socket.AF_INET6 else address[0]
    with listener:
        print(f"listening on http://{shown}:{listener.getsockname()[1]}{_HTTP_PATH}", flush=True)
        uvicorn.Server(config).run(sockets=[listener])
    return 0


if __name__ == "__main__":
    sys.exit(main())
