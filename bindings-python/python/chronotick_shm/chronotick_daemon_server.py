"""The old path of `chronotick.daemon.server`."""

from chronotick.daemon.server import main

__all__ = ["main"]

if __name__ == "__main__":
    raise SystemExit(main())
