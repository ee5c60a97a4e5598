"""The old path of `chronotick.mcp.stdio_server`."""

from chronotick.mcp.stdio_server import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
