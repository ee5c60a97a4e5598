package chronotick

import (
	"math"
	"time"
)

// Reading is the time, as a clock page tells it.
type Reading struct {
	// CorrectedNS is the best estimate of the true time, Unix ns.
	CorrectedNS int64
	// EarliestNS: the true time is not before this, Unix ns; math.MinInt64 when there is no bound.
	EarliestNS int64
	// LatestNS: the true time is not after this, Unix ns; math.MaxInt64 when there is no bound.
	LatestNS int64
	// SystemNS is the system clock at the reading, as the page's anchor tells it, Unix ns.
	SystemNS int64
	// DriftRate is the rate of the correction, s/s.
	DriftRate float64
	// Confidence is the daemon's, 0 to 1.
	Confidence float32
	// Status says how far to trust it.
	Status Status
	// Source says what the correction was computed from.
	Source Source

	uncertainty uncertainty
}

// uncertainty is what one standard deviation is worked out from when somebody asks: its square root takes as long as the
// rest of a reading.
type uncertainty struct {
	// s, and s/s.
	offset, drift float64
	elapsedNS     int64
}

// Age is how old the correction is: the time since its prediction_time on the page's anchor clock.
func (r Reading) Age() time.Duration { return time.Duration(r.uncertainty.elapsedNS) }

// Sigma is one standard deviation of the estimate.
func (r Reading) Sigma() time.Duration {
	u := r.uncertainty
	grown := u.drift * float64(float64(u.elapsedNS)/1e9)
	return time.Duration(roundNS(math.Sqrt(float64(u.offset*u.offset) + float64(grown*grown))))
}

// Corrected is the best estimate of the true time.
func (r Reading) Corrected() time.Time { return time.Unix(0, r.CorrectedNS) }

// Bounded is false when the status allows no bound.
func (r Reading) Bounded() bool { return r.EarliestNS != math.MinInt64 && r.LatestNS != math.MaxInt64 }

// Earliest is a moment that the true time is not before; the zero time when there is no bound.
func (r Reading) Earliest() time.Time {
	if !r.Bounded() {
		return time.Time{}
	}
	return time.Unix(0, r.EarliestNS)
}

// Latest is a moment that the true time is not after; the zero time when there is no bound.
func (r Reading) Latest() time.Time {
	if !r.Bounded() {
		return time.Time{}
	}
	return time.Unix(0, r.LatestNS)
}

// System is the system clock at the reading, as the page's anchor tells it.
func (r Reading) System() time.Time { return time.Unix(0, r.SystemNS) }

// MaxError is how far the corrected time can be off at most; the longest Duration when there is no bound.
func (r Reading) MaxError() time.Duration {
	if !r.Bounded() {
		return math.MaxInt64
	}
	return time.Duration(r.LatestNS - r.CorrectedNS)
}

// Before reports whether this reading was certainly taken earlier than the other: their bounds do not touch. When neither
// a.Before(b) nor b.Before(a), nobody can tell.
func (r Reading) Before(other Reading) bool { return r.LatestNS < other.EarliestNS }

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
