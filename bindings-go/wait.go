//go:build cgo

package chronotick

import (
	"context"
	"errors"
	"math"
	"runtime"
	"time"
)

const (
	// The clock is looked at again at least this often, since its page may change during the wait.
	lookAgain = 250 * time.Millisecond
	// The end of a wait is the library's, which blocks a thread: short enough that a context is honoured soon.
	endgame = 5 * time.Millisecond
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
	targetNS := target.UnixNano()
	if !time.Unix(0, targetNS).Equal(target) {
		return Waited{}, &Error{Code: ErrInvalidArgument, Message: "the target is outside the years 1678 to 2262"}
	}
	for first := true; ; first = false {
		if err := ctx.Err(); err != nil {
			return Waited{}, err
		}
		reading, err := c.Now()
		if err != nil {
			return Waited{}, err
		}
		left := until(targetNS, reading.CorrectedNS)
		past := first && left < 0
		usable := reading.Status != Disrupted && reading.Status != Expired && reading.Status != NoData
		if usable && left <= 0 && !past && tolerance >= 0 {
			return Waited{Reading: reading, LateBy: -left}, nil
		}
		if usable && left > endgame && tolerance >= 0 {
			if err := sleep(ctx, min(left-endgame, lookAgain)); err != nil {
				return Waited{}, err
			}
			continue
		}
		// The last stretch and every refusal are the library's. It is never asked for more than a stretch, since it knows
		// no context; a stretch that ends between our look at the clock and its own is simply over.
		stretchNS := targetNS
		if left > endgame {
			stretchNS = reading.CorrectedNS + int64(endgame)
		}
		waited, err := c.waitUntil(stretchNS, tolerance)
		if err == nil && stretchNS == targetNS {
			return waited, nil
		}
		if err != nil && (past || !errors.Is(err, ErrAlreadyPast)) {
			return Waited{}, err
		}
	}
}

func (c *Client) waitUntil(targetNS int64, tolerance time.Duration) (Waited, error) {
	h := c.handle.Load()
	if h == nil {
		return Waited{}, ErrClosed
	}
	waited, err := h.waitUntil(targetNS, tolerance)
	runtime.KeepAlive(h)
	return waited, err
}

// until is targetNS - nowNS; it saturates.
func until(targetNS, nowNS int64) time.Duration {
	left := targetNS - nowNS
	if (left > 0) != (targetNS > nowNS) {
		if targetNS > nowNS {
			return math.MaxInt64
		}
		return -math.MaxInt64
	}
	return time.Duration(left)
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
