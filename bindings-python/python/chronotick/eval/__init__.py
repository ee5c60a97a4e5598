"""Measuring and watching: the lower-level client, and the program `chronotick-client`."""
