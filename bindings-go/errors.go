package chronotick

import (
	"errors"
	"fmt"
)

// ErrClosed is returned by every method of a closed client.
var ErrClosed = errors.New("chronotick: the client is closed; attach again")

// Error is a failure of the library: its code, and a message that says what happened and what to do.
type Error struct {
	Code    ErrorCode
	Message string
}

func (e *Error) Error() string { return "chronotick: " + e.Message }

// Unwrap makes errors.Is(err, ErrNotRunning) work.
func (e *Error) Unwrap() error { return e.Code }

func failed(code ErrorCode, format string, arguments ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, arguments...)}
}
