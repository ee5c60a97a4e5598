//go:build cgo

package chronotick

import (
	"math"
	"time"
)

// Status says how far a reading can be trusted.
type Status uint32

// String is the word used in every language, such as "synchronized".
func (s Status) String() string { return statusName(s) }

// Trusted reports whether the bound of a reading with this status holds: synchronized or in holdover.
func (s Status) Trusted() bool { return s == Synchronized || s == Holdover }

// Source says what a correction was computed from.
type Source uint32

// String is the word used in every language, such as "ntp".
func (s Source) String() string { return sourceName(s) }

// Reading is the time, as a clock page tells it.
type Reading struct {
	// Corrected is the best estimate of the true time.
	Corrected time.Time
	// CorrectedNS is Corrected in Unix nanoseconds.
	CorrectedNS int64
	// Bounded is false when the status allows no bound; then Earliest and Latest are zero.
	Bounded bool
	// Earliest is a moment that the true time is not before.
	Earliest time.Time
	// Latest is a moment that the true time is not after.
	Latest time.Time
	// EarliestNS is Earliest in Unix nanoseconds; math.MinInt64 when there is no bound.
	EarliestNS int64
	// LatestNS is Latest in Unix nanoseconds; math.MaxInt64 when there is no bound.
	LatestNS int64
	// Sigma is one standard deviation of the estimate.
	Sigma time.Duration
	// System is the system clock at the reading, as the page's anchor tells it.
	System time.Time
	// SystemNS is System in Unix nanoseconds.
	SystemNS int64
	// DriftRate is the rate of the correction, s/s.
	DriftRate float64
	// Confidence is the daemon's, 0 to 1.
	Confidence float32
	// Status says how far to trust it.
	Status Status
	// Source says what the correction was computed from.
	Source Source
}

// MaxError is how far the corrected time can be off at most; the longest Duration when there is no bound.
func (r Reading) MaxError() time.Duration {
	if !r.Bounded {
		return math.MaxInt64
	}
	return time.Duration(r.LatestNS - r.CorrectedNS)
}

// Clocks are clock readings to evaluate a page at.
type Clocks struct {
	// RealtimeNS is CLOCK_REALTIME in Unix ns.
	RealtimeNS int64
	// BoottimeNS is CLOCK_BOOTTIME in ns.
	BoottimeNS int64
	// MonotonicRawNS is CLOCK_MONOTONIC_RAW in ns.
	MonotonicRawNS int64
	// Counter is the hardware counter in ticks; nil where it cannot be read.
	Counter *int64
}

// Evaluate computes the reading that a client would make of a page with these bytes at these clock readings. It reads
// no clock.
func Evaluate(page []byte, clocks Clocks) (Reading, error) { return evaluate(page, clocks) }
