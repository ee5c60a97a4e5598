package chronotick

// This file is the pure-Go arithmetic of a clock page: from its sixteen words and a clock reading to the time. It gives,
// bit for bit, what the C library gives; a float64() around a product keeps the compiler from fusing it with a sum.

import (
	"math"
	"math/bits"
	"time"
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
func (w *pageBits) elapsedNS(now int64) int64 {
	switch w.anchorClock() {
	case anchorNone:
		return subtract(now, unixNS(w.float(wordPrediction)))
	case anchorMonotonicRaw:
		raw := subtract(now, int64(w[wordAnchor]))
		// The rate, in units of 2^-42, says how much faster REALTIME ran than RAW.
		rate := float64(int32(w.high(wordLatencyAndAnchor))) / (1 << 42)
		return add(raw, round(float64(float64(raw)*rate)))
	case anchorCounter:
		shift := 32 - w.high(wordMagic)>>28
		return scale(subtract(now, int64(w[wordAnchor])), w.high(wordLatencyAndAnchor), shift)
	}
	return subtract(now, int64(w[wordAnchor]))
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

// status elapsedNS after the prediction time. The gravest reason wins.
func (w *pageBits) status(elapsedNS int64) Status {
	flags := uint32(w[wordFlags])
	v2 := w.v2()
	switch {
	case flags&flagDisrupted != 0:
		return Disrupted
	case Source(w.high(wordFlags)) == SourceNoData || v2 && w.high(wordSequence) == 0:
		return NoData
	case flags&flagValid == 0 || elapsedNS > roundNS(w.float(wordValidUntil)-w.float(wordPrediction)):
		return Expired
	case !v2:
		return Legacy
	case flags&flagHoldover != 0:
		return Holdover
	case flags&flagWarmupComplete == 0:
		return WarmingUp
	}
	return Synchronized
}

// readAt is the time elapsedNS after the prediction time. slackNS widens the bound: it is how far elapsedNS itself can be off.
func (w *pageBits) readAt(elapsedNS, slackNS int64) Reading {
	elapsed := float64(elapsedNS)
	systemNS := add(unixNS(w.float(wordPrediction)), elapsedNS)
	driftNS := round(float64(elapsed * w.float(wordDriftRate)))
	offsetSigma := w.float(wordOffsetSigma)
	driftSigma := w.float(wordDriftSigma)
	grownSigma := float64(driftSigma * float64(elapsed/1e9))
	sigma := math.Sqrt(float64(offsetSigma*offsetSigma) + float64(grownSigma*grownSigma))
	reading := Reading{
		CorrectedNS: add(add(systemNS, roundNS(w.float(wordOffset))), driftNS),
		EarliestNS:  math.MinInt64,
		LatestNS:    math.MaxInt64,
		SystemNS:    systemNS,
		Sigma:       time.Duration(roundNS(sigma)),
		DriftRate:   w.float(wordDriftRate),
		Confidence:  math.Float32frombits(uint32(w[wordSequence])),
		Status:      w.status(elapsedNS),
		Source:      Source(w.high(wordFlags)),
	}
	// An old page has a sigma and no bound; a withdrawn or disrupted one has lost its bound; zero is no bound.
	maxError := w.maxError()
	if uint32(w[wordFlags])&(flagValid|flagDisrupted) == flagValid && reading.Source != SourceNoData && maxError > 0 {
		growthNS := ceil(float64(math.Abs(elapsed) * (phi + float64(3*driftSigma))))
		errorNS := add(add(ceil(float64(maxError*1e9)), growthNS), slackNS)
		reading.EarliestNS = subtract(reading.CorrectedNS, errorNS)
		reading.LatestNS = add(reading.CorrectedNS, errorNS)
	}
	return reading
}

// integer is x without its fraction; it saturates.
func integer(x float64) int64 {
	switch {
	case x >= 1<<63:
		return math.MaxInt64
	case x < -1<<63:
		return math.MinInt64
	}
	return int64(x)
}

// round goes to the nearest integer, halves away from zero; it saturates.
func round(x float64) int64 {
	whole := integer(x)
	switch rest := x - float64(whole); {
	case rest >= 0.5:
		return add(whole, 1)
	case rest <= -0.5:
		return add(whole, -1)
	}
	return whole
}

// ceil goes to the next integer upwards; it saturates.
func ceil(x float64) int64 {
	whole := integer(x)
	if float64(whole) < x {
		return add(whole, 1)
	}
	return whole
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
