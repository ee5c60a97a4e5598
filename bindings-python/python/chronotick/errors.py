"""The exceptions of the package. Each has a `code`, the same word in every language."""


class ChronoTickError(RuntimeError):
    """The clock cannot be read or waited on; `code` says why in one stable word."""

    def __init__(self, message: str, code: str = "internal") -> None:
        super().__init__(message, code)
        self.message = message
        self.code = code

    def __str__(self) -> str:
        return self.message


class DaemonNotRunningError(ChronoTickError):
    """There is no clock page: chronotick-daemon does not run."""


class ClientClosedError(ChronoTickError):
    """The client was closed before this call. Its code, "closed", is of Python alone."""

    def __init__(self, message: str, code: str = "closed") -> None:
        super().__init__(message, code)


class InvalidArgumentError(ValueError):
    """An argument is not allowed. A ValueError and no ChronoTickError: the caller is at fault, not the clock."""

    def __init__(self, message: str, code: str = "invalid_argument") -> None:
        super().__init__(message, code)
        self.message = message
        self.code = code

    def __str__(self) -> str:
        return self.message


class TargetPastError(InvalidArgumentError):
    """The target of a wait had passed when the wait began."""
