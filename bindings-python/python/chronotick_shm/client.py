"""The old path of `chronotick.client`."""

from chronotick.client import ChronoTickClient, CorrectedTime, get_current_time

__all__ = ["ChronoTickClient", "CorrectedTime", "get_current_time"]
