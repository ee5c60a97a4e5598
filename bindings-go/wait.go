package chronotick

import (
	"context"
	"errors"
	"math"
	"syscall"
	"time"
)

const (
	// The clock is looked at again at least this often, since its page may change during the wait.
	lookAgain = 250 * time.Millisecond
	// Go's timers can be late by a millisecond: the end of a wait is slept on a thread instead, in stretches so short that
	// a context is honoured soon.
	endgame = 5 * time.Millisecond
	// How much earlier than the target a sleep ends when a spin is to do the rest.
	spin = 200 * time.Microsecond
	// How often a wait for a clock that can be trusted looks at it.
	pollStatus = 10 * time.Millisecond
	// Below this tolerance the end is spun.
	spinTolerance = time.Millisecond
)

// Waited is how a wait ended.
type Waited struct {
	// Reading is the one that found the target reached.
	Reading Reading
	// LateBy is corrected time at the wake-up minus the target: never negative.
	LateBy time.Duration
}

// WaitUntil blocks until corrected time reaches target. With a tolerance below a millisecond the last 200 µs are spun,
// otherwise they are slept. A wait survives holdover; it fails with [ErrUntrusted] when the clock is no longer to be
// trusted, with [ErrAlreadyPast] when the target has passed before the call, and with the context's error.
func (c *Client) WaitUntil(ctx context.Context, target time.Time, tolerance time.Duration) (Waited, error) {
	targetNS, err := unixNanoseconds(target)
	if err != nil {
		return Waited{}, err
	}
	if tolerance < 0 {
		return Waited{}, failed(ErrInvalidArgument, "the tolerance is negative: give the lateness that is acceptable, or 0")
	}
	for first := true; ; first = false {
		if err := ctx.Err(); err != nil {
			return Waited{}, err
		}
		reading, err := c.Now()
		if err != nil {
			return Waited{}, err
		}
		if !reading.Status.usable() {
			return Waited{}, failed(ErrUntrusted, "cannot wait on a clock that is %s: wait until `chronotick-daemon status` "+
				"says synchronized", reading.Status)
		}
		left := until(targetNS, reading.CorrectedNS)
		if left < 0 && first {
			return Waited{}, failed(ErrAlreadyPast, "the target time passed %v ago: choose a later one", -left)
		}
		if left <= 0 {
			return Waited{Reading: reading, LateBy: -left}, nil
		}
		if err := nap(ctx, left, tolerance); err != nil {
			return Waited{}, err
		}
	}
}

// WaitSynchronized blocks until the clock is synchronized or in holdover, and gives the first such reading, or the error of
// the context: give it a deadline. A page that is half written or not yet readable is waited for as well.
func (c *Client) WaitSynchronized(ctx context.Context) (Reading, error) {
	for {
		if err := ctx.Err(); err != nil {
			return Reading{Status: NoData}, err
		}
		reading, err := c.Now()
		if err == nil && reading.Status.Trusted() {
			return reading, nil
		}
		if errors.Is(err, ErrClosed) {
			return Reading{Status: NoData}, err
		}
		if err := sleep(ctx, pollStatus); err != nil {
			return Reading{Status: NoData}, err
		}
	}
}

// nap sleeps towards a target that is left away; it may end early.
func nap(ctx context.Context, left, tolerance time.Duration) error {
	if left > endgame {
		return sleep(ctx, min(left-endgame, lookAgain))
	}
	if tolerance < spinTolerance {
		left -= spin
	}
	if left > 0 {
		request := syscall.NsecToTimespec(int64(left))
		// A signal may end it early; the loop of the wait looks at the clock again.
		_ = syscall.Nanosleep(&request, nil)
	}
	return nil
}

// until is targetNS - nowNS; it saturates, at a value that can be negated.
func until(targetNS, nowNS int64) time.Duration {
	return time.Duration(max(subtract(targetNS, nowNS), -math.MaxInt64))
}

func sleep(ctx context.Context, span time.Duration) error {
	timer := time.NewTimer(span)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}
