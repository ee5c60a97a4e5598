package chronotick

import (
	"encoding/binary"
	"errors"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/minoots/minoots/bindings-go/internal/counter"
)

func anchoredPage(anchor anchorClock, anchorNow int64) []byte {
	page := make([]byte, pageSize)
	word := func(at int, value uint64) { binary.LittleEndian.PutUint64(page[at*8:], value) }
	second := float64(time.Now().Unix())
	word(wordOffset, math.Float64bits(0.25))
	word(wordPrediction, math.Float64bits(second))
	word(wordValidUntil, math.Float64bits(second+3600))
	word(wordSequence, 2<<32)
	word(wordFlags, uint64(SourceNTP)<<32|flagValid|flagWarmupComplete)
	word(wordMagic, (uint64(anchor)<<24|magicV2)<<32)
	word(wordMaxError, uint64(math.Float32bits(0.001))<<32)
	word(wordAnchor, uint64(anchorNow))
	return page
}

func openFile(t *testing.T, page []byte) (path string, reader *pageReader) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "page")
	if err := os.WriteFile(path, page, 0o600); err != nil {
		t.Fatal(err)
	}
	reader, err := openPage(path)
	if err != nil {
		t.Fatal(err)
	}
	return path, reader
}

func mustRead(t *testing.T, reader *pageReader) Reading {
	t.Helper()
	var reading Reading
	if err := reader.now(&reading); err != nil {
		t.Fatal(err)
	}
	return reading
}

// overwrite changes bytes of the object itself, as its writer does.
func overwrite(t *testing.T, path string, at int64, bytes ...byte) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err == nil {
		_, err = file.WriteAt(bytes, at)
	}
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestBoottimeIsThatOfTheKernel(t *testing.T) {
	for range 1000 {
		before := systemClockNS(clockBoottime)
		now, slackNS := boottimeNS()
		after := systemClockNS(clockBoottime)
		if now < before-slackNS || now > after+slackNS {
			t.Fatalf("%d ± %d is not between %d and %d", now, slackNS, before, after)
		}
	}
}

// A suspend moves CLOCK_REALTIME and CLOCK_BOOTTIME against CLOCK_MONOTONIC: here it is the measurement that is moved.
func TestASuspendIsCounted(t *testing.T) {
	boottimeNS()
	stale := *lastPairing.Load()
	stale.bootMinusMonoNS -= nsPerSecond
	stale.realMinusMonoNS -= nsPerSecond
	lastPairing.Store(&stale)
	before := systemClockNS(clockBoottime)
	if now, _ := boottimeNS(); now < before {
		t.Errorf("%d is before %d", now, before)
	}
	if p := lastPairing.Load(); p == &stale {
		t.Error("the difference was not measured anew")
	}
}

func TestEveryAnchorIsRead(t *testing.T) {
	check := func(anchor anchorClock, anchorNow int64) {
		t.Helper()
		_, reader := openFile(t, anchoredPage(anchor, anchorNow))
		reading := mustRead(t, reader)
		if off := time.Duration(reading.SystemNS - time.Now().UnixNano()); reading.Status != Synchronized || off.Abs() > 2*time.Second {
			t.Errorf("anchor %d: %v off, %v", anchor, off, reading.Status)
		}
	}
	check(anchorNone, 0)
	check(anchorBoottime, systemClockNS(clockBoottime))
	check(anchorMonotonicRaw, systemClockNS(clockMonotonicRaw))
	now, ok := counter.Read()
	if !ok {
		t.Skip("skipped: no hardware counter here")
	}
	page := anchoredPage(anchorCounter, now)
	// A rate of 2^-32 ns a tick: the time stands nearly still, but is read.
	binary.LittleEndian.PutUint32(page[116:], 1)
	_, reader := openFile(t, page)
	if reading := mustRead(t, reader); reading.Status != Synchronized {
		t.Errorf("%v", reading.Status)
	}
}

func TestAWriterThatDiesLeavesTheLastGoodCopy(t *testing.T) {
	path, reader := openFile(t, anchoredPage(anchorNone, 0))
	mustRead(t, reader)
	const sequence = 68
	overwrite(t, path, sequence, 3)
	if reading := mustRead(t, reader); reading.Status != Synchronized {
		t.Errorf("%v", reading.Status)
	}
	fresh, err := openPage(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := fresh.now(new(Reading)); !errors.Is(err, ErrWriterDied) {
		t.Error(err)
	}
}

func TestATruncatedObjectDoesNotEndTheProgram(t *testing.T) {
	path, reader := openFile(t, anchoredPage(anchorNone, 0))
	fresh, err := openPage(path)
	if err != nil {
		t.Fatal(err)
	}
	mustRead(t, reader)
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	if reading := mustRead(t, reader); reading.Status != Synchronized {
		t.Errorf("the last good copy is %v", reading.Status)
	}
	if err := fresh.now(new(Reading)); !errors.Is(err, ErrWriterDied) {
		t.Errorf("without a copy: %v", err)
	}
}

func TestAReplacedPageIsFoundAgain(t *testing.T) {
	stopped := anchoredPage(anchorNone, 0)
	stopped[wordFlags*8] = 0
	path, reader := openFile(t, stopped)
	if reading := mustRead(t, reader); reading.Status != Expired {
		t.Errorf("%v", reading.Status)
	}
	if err := os.WriteFile(path+".new", anchoredPage(anchorNone, 0), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	reader.lookedNS.Store(0)
	if reading := mustRead(t, reader); reading.Status != Synchronized {
		t.Errorf("%v", reading.Status)
	}
}

func TestAReadAllocatesNothing(t *testing.T) {
	_, reader := openFile(t, anchoredPage(anchorBoottime, systemClockNS(clockBoottime)))
	mustRead(t, reader)
	if n := testing.AllocsPerRun(1000, func() { mustRead(t, reader) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
