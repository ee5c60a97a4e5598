"""The old path of `chronotick.shm.config`."""

from chronotick.shm import *  # noqa: F403
from chronotick.shm import __all__ as __all__
