package chronotick

// This file is the pure-Go arithmetic of a clock page: from its sixteen words and a clock reading to the time. It gives,
// bit for bit, what the C library gives; a float64() around a product keeps the compiler from fusing it with a sum.

import (
	"math"
	"math/bits"
)

// The page in 64-bit words, little-endian; docs/formats/clock-page.md draws it.
const (
	pageSize  = 128
	pageWords = 16

	wordOffset           = 2
	wordDriftRate        = 3
	wordOffsetSigma      = 4
	wordDriftSigma       = 5
	wordPrediction       = 6
	wordValidUntil       = 7
	wordSequence         = 8
	wordFlags            = 9
	wordMagic            = 10
	wordLastSync         = 11
	wordUptime           = 12
	wordMaxError         = 13
	wordLatencyAndAnchor = 14
	wordAnchor           = 15
)

const (
	flagValid          = 0x01
	flagWarmupComplete = 0x08
	flagHoldover       = 0x10
	flagDisrupted      = 0x20

	// 'C', 'T', 2 in the lower three bytes of the upper half of wordMagic.
	magicV2   = 2<<16 | 'T'<<8 | 'C'
	magicMask = 1<<24 - 1

	nsPerSecond = 1_000_000_000
	// Unix seconds that fit in 64 bits of nanoseconds, with room for an offset.
	maxSeconds = 9.2e9
	// The frequency tolerance of an undisciplined oscillator, RFC 5905.
	phi = 15e-6
)

type anchorClock uint8

const (
	anchorNone         anchorClock = 0
	anchorBoottime     anchorClock = 1
	anchorMonotonicRaw anchorClock = 2
	anchorCounter      anchorClock = 3
)

type pageBits [pageWords]uint64

func (w *pageBits) float(at int) float64 { return math.Float64frombits(w[at]) }

func (w *pageBits) lowFloat(at int) float64 {
	return float64(math.Float32frombits(uint32(w[at])))
}

func (w *pageBits) high(at int) uint32 { return uint32(w[at] >> 32) }

func (w *pageBits) v2() bool { return w.high(wordMagic)&magicMask == magicV2 }

// anchorClock of a version 2 page; an old page has none.
func (w *pageBits) anchorClock() anchorClock {
	if !w.v2() {
		return anchorNone
	}
	return anchorClock(w.high(wordMagic) >> 24 & 0x0f)
}

// maxError is the hard bound at the prediction time, s; an old page keeps these bytes reserved.
func (w *pageBits) maxError() float64 {
	if !w.v2() {
		return 0
	}
	return float64(math.Float32frombits(w.high(wordMaxError)))
}

// within is false for a NaN.
func within(x, limit float64) bool { return math.Abs(x) <= limit }

func positive(x float64) bool { return x >= 0 && x <= maxSeconds }

// sound reports whether every number of the page is one that the arithmetic below survives.
func (w *pageBits) sound() bool {
	if magic := w.high(wordMagic); magic&magicMask == magicV2 {
		prediction := w.float(wordPrediction)
		if magic>>24&0x0f > uint32(anchorCounter) || !within(prediction, maxSeconds) ||
			prediction != float64(int64(prediction)) {
			return false
		}
	} else if magic&0xffff == magicV2&0xffff {
		return false
	}
	return w.high(wordFlags) <= uint32(SourceFusion) &&
		within(w.float(0), maxSeconds) && within(w.float(1), maxSeconds) &&
		within(w.float(wordOffset), maxSeconds) && within(w.float(wordDriftRate), 1) &&
		positive(w.float(wordOffsetSigma)) && positive(w.float(wordDriftSigma)) &&
		within(w.float(wordPrediction), maxSeconds) && within(w.float(wordValidUntil), maxSeconds) &&
		within(w.lowFloat(wordSequence), maxSeconds) && within(w.float(wordLastSync), maxSeconds) &&
		within(w.float(wordUptime), maxSeconds) && positive(w.maxError()) &&
		within(w.lowFloat(wordLatencyAndAnchor), math.MaxFloat64)
}

// fault says what sound has found.
func (w *pageBits) fault() error {
	const foreign = "the object was not written by a ChronoTick daemon, or is damaged; restart the daemon"
	magic := w.high(wordMagic)
	version := magic >> 16 & 0xff
	anchor := magic >> 24 & 0x0f
	switch {
	case magic&0xffff == magicV2&0xffff && version != 2:
		return failed(ErrPageVersion, "clock page: version %d is newer than this library knows (2): update the library", version)
	case w.v2() && anchor > uint32(anchorCounter):
		return failed(ErrPageVersion, "clock page: anchor clock %d is newer than this library knows: update the library", anchor)
	case w.high(wordFlags) > uint32(SourceFusion):
		return failed(ErrPageCorrupt, "clock page: source %d is none of 0 to 4: %s", w.high(wordFlags), foreign)
	}
	return failed(ErrPageCorrupt, "clock page: a number in it is not finite, negative or out of range: %s", foreign)
}

// elapsedNS is the time since the prediction time, given the reading of the page's anchor clock.
func (m *model) elapsedNS(now int64) int64 {
	since := subtract(now, m.originNS)
	switch m.anchor {
	case anchorMonotonicRaw:
		return add(since, round(float64(float64(since)*m.rawRate)))
	case anchorCounter:
		return scale(since, m.counterRate, m.counterShift)
	}
	return since
}

// scale is ticks * rate / 2^shift, rounded down; it saturates.
func scale(ticks int64, rate uint32, shift uint32) int64 {
	high, low := bits.Mul64(uint64(ticks), uint64(rate))
	if ticks < 0 {
		high -= uint64(rate)
	}
	scaled := int64(low>>shift | high<<(64-shift))
	if int64(high)>>shift != scaled>>63 {
		if ticks < 0 {
			return math.MinInt64
		}
		return math.MaxInt64
	}
	return scaled
}

// model is a sound page with everything computed that does not depend on the clock. It never changes.
type model struct {
	copy pageBits

	anchor       anchorClock
	counterShift uint32
	counterRate  uint32
	// The reading of the anchor clock at the prediction time; without an anchor, the prediction time.
	originNS int64
	// By how much REALTIME ran faster than RAW.
	rawRate float64

	predictionNS, offsetNS int64
	driftRate, driftSigma  float64
	offsetSigma            float64
	// The hard bound at the prediction time, and its growth; unbounded when the page allows none.
	unbounded    bool
	maxErrorNS   int64
	growth       float64
	validForNS   int64
	fresh, stale Status
	source       Source
	confidence   float32
}

// modelOf is the model of a page, or what is wrong with it.
func modelOf(w *pageBits) (*model, error) {
	if !w.sound() {
		return nil, w.fault()
	}
	driftSigma := w.float(wordDriftSigma)
	m := &model{
		copy:         *w,
		anchor:       w.anchorClock(),
		originNS:     int64(w[wordAnchor]),
		predictionNS: unixNS(w.float(wordPrediction)),
		offsetNS:     roundNS(w.float(wordOffset)),
		driftRate:    w.float(wordDriftRate),
		driftSigma:   driftSigma,
		offsetSigma:  w.float(wordOffsetSigma),
		maxErrorNS:   ceil(float64(w.maxError() * 1e9)),
		growth:       phi + float64(3*driftSigma),
		validForNS:   roundNS(w.float(wordValidUntil) - w.float(wordPrediction)),
		source:       Source(w.high(wordFlags)),
		confidence:   math.Float32frombits(uint32(w[wordSequence])),
	}
	switch m.anchor {
	case anchorNone:
		m.originNS = m.predictionNS
	case anchorMonotonicRaw:
		m.rawRate = float64(int32(w.high(wordLatencyAndAnchor))) / (1 << 42)
	case anchorCounter:
		m.counterRate, m.counterShift = w.high(wordLatencyAndAnchor), 32-w.high(wordMagic)>>28
	}
	// An old page has a sigma and no bound; a withdrawn or disrupted one has lost its bound; zero is no bound.
	flags := uint32(w[wordFlags])
	m.unbounded = flags&(flagValid|flagDisrupted) != flagValid || m.source == SourceNoData || !(w.maxError() > 0)
	m.fresh, m.stale = w.statuses()
	return m, nil
}

// statuses are those before and after the end of validity. The gravest reason wins.
func (w *pageBits) statuses() (fresh, stale Status) {
	flags := uint32(w[wordFlags])
	switch {
	case flags&flagDisrupted != 0:
		return Disrupted, Disrupted
	case Source(w.high(wordFlags)) == SourceNoData || w.v2() && w.high(wordSequence) == 0:
		return NoData, NoData
	case flags&flagValid == 0:
		return Expired, Expired
	case !w.v2():
		return Legacy, Expired
	case flags&flagHoldover != 0:
		return Holdover, Expired
	case flags&flagWarmupComplete == 0:
		return WarmingUp, Expired
	}
	return Synchronized, Expired
}

// readAt is the time elapsedNS after the prediction time. slackNS widens the bound: it is how far elapsedNS itself can be off.
func (m *model) readAt(elapsedNS, slackNS int64, reading *Reading) {
	elapsed := float64(elapsedNS)
	systemNS := add(m.predictionNS, elapsedNS)
	correctedNS := add(add(systemNS, m.offsetNS), round(float64(elapsed*m.driftRate)))
	reading.CorrectedNS = correctedNS
	reading.SystemNS = systemNS
	if m.unbounded {
		reading.EarliestNS, reading.LatestNS = math.MinInt64, math.MaxInt64
	} else {
		errorNS := add(add(m.maxErrorNS, ceil(float64(math.Abs(elapsed)*m.growth))), slackNS)
		reading.EarliestNS, reading.LatestNS = subtract(correctedNS, errorNS), add(correctedNS, errorNS)
	}
	reading.DriftRate = m.driftRate
	reading.Confidence = m.confidence
	reading.Status = m.fresh
	if elapsedNS > m.validForNS {
		reading.Status = m.stale
	}
	reading.Source = m.source
	reading.uncertainty = uncertainty{offset: m.offsetSigma, drift: m.driftSigma, elapsedNS: elapsedNS}
}

// round goes to the nearest integer, halves away from zero; it saturates. A number of 2^53 or more has no fraction, so
// that only the conversion can leave the range.
func round(x float64) int64 {
	if !(math.Abs(x) < 1<<63) {
		return outside(x)
	}
	whole := int64(x)
	if rest := x - float64(whole); rest >= 0.5 {
		whole++
	} else if rest <= -0.5 {
		whole--
	}
	return whole
}

// ceil goes to the next integer upwards; it saturates.
func ceil(x float64) int64 {
	if !(math.Abs(x) < 1<<63) {
		return outside(x)
	}
	whole := int64(x)
	if float64(whole) < x {
		whole++
	}
	return whole
}

// outside is the nearest integer to a number that is beyond all of them.
func outside(x float64) int64 {
	if x < 0 {
		return math.MinInt64
	}
	return math.MaxInt64
}

func roundNS(seconds float64) int64 { return round(float64(seconds * 1e9)) }

// unixNS is Unix seconds, at most maxSeconds of them, as nanoseconds; whole seconds are exact.
func unixNS(seconds float64) int64 {
	whole := int64(seconds)
	return whole*nsPerSecond + roundNS(seconds-float64(whole))
}

// add saturates.
func add(a, b int64) int64 {
	sum := a + b
	if (a^sum)&(b^sum) < 0 {
		return saturated(a)
	}
	return sum
}

// subtract saturates.
func subtract(a, b int64) int64 {
	difference := a - b
	if (a^b)&(a^difference) < 0 {
		return saturated(a)
	}
	return difference
}

func saturated(sign int64) int64 {
	if sign < 0 {
		return math.MinInt64
	}
	return math.MaxInt64
}
