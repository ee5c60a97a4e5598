"""Finding the daemon's program, which the wheel brings along."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from chronotick.errors import ChronoTickError

PROGRAM = "chronotick-daemon"
# Another program to use instead, for instance one built from a clone.
OVERRIDE = "CHRONOTICK_DAEMON"


def find() -> Path:
    """The program: $CHRONOTICK_DAEMON, else the one of this package. A ChronoTickError where there is none."""
    override = os.environ.get(OVERRIDE)
    if override:
        found = shutil.which(override)
        if found is None:
            raise ChronoTickError(f"${OVERRIDE} is {override}, which is no program: correct or unset it", "not_running")
        return Path(found)
    bundled = Path(__file__).resolve().parent.parent / "_bin" / PROGRAM
    if not os.access(bundled, os.X_OK):
        raise ChronoTickError(
            f"this installation of chronotick has no daemon ({bundled} is missing): install the wheel, or set "
            f"${OVERRIDE} to one that was built with `cargo build --release`",
            "not_running",
        )
    return bundled
