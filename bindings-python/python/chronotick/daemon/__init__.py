"""The daemon: finding its binary, starting it, and reading configurations of the first ChronoTick."""
