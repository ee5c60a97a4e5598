//go:build cgo

package chronotick

import "errors"

// ErrClosed is returned by every method of a closed client.
var ErrClosed = errors.New("chronotick: the client is closed; attach again")

// ErrorCode is an error as a number; its constants are what errors.Is is asked about.
type ErrorCode uint32

// Error is the word used in every language, such as "not_running".
func (c ErrorCode) Error() string { return errorName(c) }

// Error is a failure of the library: its code, and a message that says what happened and what to do.
type Error struct {
	Code    ErrorCode
	Message string
}

func (e *Error) Error() string { return "chronotick: " + e.Message }

// Unwrap makes errors.Is(err, ErrNotRunning) work.
func (e *Error) Unwrap() error { return e.Code }
