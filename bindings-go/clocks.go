package chronotick

// This file reads the clocks of the machine for the pure-Go reader.
//
// Go offers CLOCK_REALTIME and CLOCK_MONOTONIC without a system call, by time.Now, and no other clock. CLOCK_BOOTTIME is
// CLOCK_MONOTONIC plus the time spent in suspend, so it is had by adding a difference that was measured once. A suspend
// moves CLOCK_REALTIME against CLOCK_MONOTONIC by the same amount, and both come with the same time.Now: when their
// distance is another than at the measurement, the difference is not used, and CLOCK_BOOTTIME is read by a system call.
// (Slewing moves the two together; a step of the system clock costs one such call.) The measurement is not exact, since a
// system call takes time on both sides of the reading: the bound of a reading is widened by what it may be off.

import (
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

const (
	clockMonotonicRaw = 4
	clockBoottime     = 7

	// By how much the distance of the two clocks may seem to have moved: time.Now reads one after the other.
	sameDistanceNS = 5_000
	// A difference is measured anew at least this often.
	pairedForNS = 1_000_000_000
)

// origin is where monoNS counts from; a time of the package time does not tell its monotonic reading otherwise.
var origin = time.Now().Add(-time.Nanosecond)

// monoNS is CLOCK_MONOTONIC from an origin of our own; never 0.
func monoNS() int64 { return int64(time.Since(origin)) }

// pairing is what was measured about the clocks at one moment.
type pairing struct {
	bootMinusMonoNS, errorNS int64
	realMinusMonoNS, atNS    int64
}

var lastPairing atomic.Pointer[pairing]

// boottimeNS is CLOCK_BOOTTIME, and how far it can be off.
func boottimeNS() (nowNS, slackNS int64) {
	now := time.Now()
	monoNS := int64(now.Sub(origin))
	if p := lastPairing.Load(); p != nil && monoNS-p.atNS < pairedForNS {
		if moved := now.UnixNano() - monoNS - p.realMinusMonoNS; moved < sameDistanceNS && moved > -sameDistanceNS {
			return monoNS + p.bootMinusMonoNS, p.errorNS
		}
	}
	lastPairing.Store(measurePairing())
	return systemClockNS(clockBoottime), 0
}

// measurePairing takes the tightest of a few sandwiches: CLOCK_BOOTTIME between two readings of CLOCK_MONOTONIC.
func measurePairing() *pairing {
	best := &pairing{errorNS: 1 << 62}
	for range 5 {
		before := time.Now()
		bootNS := systemClockNS(clockBoottime)
		after := time.Now()
		beforeNS, afterNS := int64(before.Sub(origin)), int64(after.Sub(origin))
		if errorNS := (afterNS-beforeNS)/2 + 1; errorNS < best.errorNS {
			*best = pairing{
				bootMinusMonoNS: bootNS - beforeNS - (afterNS-beforeNS)/2,
				errorNS:         errorNS,
				realMinusMonoNS: before.UnixNano() - beforeNS,
				atNS:            beforeNS,
			}
		}
	}
	return best
}

// systemClockNS reads a clock by a system call, which cannot fail for a clock that every kernel has.
func systemClockNS(clock uintptr) int64 {
	var t syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clock, uintptr(unsafe.Pointer(&t)), 0)
	return t.Nano()
}
