package chronotick_test

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	chronotick "github.com/minoots/minoots/bindings-go"
)

const offset = 1500 * time.Millisecond

// opener is Attach or AttachPure.
type opener func(name string) (*chronotick.Client, error)

// bothReaders runs a test with the default reader, which is the C library where there is cgo, and with the one in Go.
func bothReaders(t *testing.T, test func(t *testing.T, open opener)) {
	t.Run("default", func(t *testing.T) { test(t, chronotick.Attach) })
	t.Run("pure", func(t *testing.T) { test(t, chronotick.AttachPure) })
}

func attach(t testing.TB, open opener, path string) *chronotick.Client {
	t.Helper()
	client, err := open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { client.Close() })
	return client
}

func now(t testing.TB, client *chronotick.Client) chronotick.Reading {
	t.Helper()
	reading, err := client.Now()
	if err != nil {
		t.Fatal(err)
	}
	return reading
}

func TestALivePageGivesTheSystemClockPlusTheCorrection(t *testing.T) {
	bothReaders(t, aLivePageGivesTheSystemClockPlusTheCorrection)
}

func aLivePageGivesTheSystemClockPlusTheCorrection(t *testing.T, open opener) {
	client := attach(t, open, livePage(t, offset))
	before := time.Now().Round(0).Add(offset)
	reading := now(t, client)
	after := time.Now().Round(0).Add(offset)
	if reading.Corrected().Before(before) || reading.Corrected().After(after) {
		t.Errorf("%v is not between %v and %v", reading.Corrected(), before, after)
	}
	// The moment of the reading lies somewhere between the two.
	if !reading.Bounded() || reading.Earliest().After(after) || reading.Latest().Before(before) {
		t.Errorf("the bound %v to %v does not hold %v", reading.Earliest(), reading.Latest(), reading.Corrected())
	}
	if reading.MaxError() < time.Millisecond {
		t.Errorf("the bound of %v is tighter than what the page says", reading.MaxError())
	}
	if status, err := client.Status(); status != chronotick.Synchronized || err != nil || !status.Trusted() {
		t.Errorf("%v %v", status, err)
	}
	if chronotick.Version() == "" {
		t.Error("the library has no version")
	}
}

func TestWhatIsNoPageIsRefusedWithAdvice(t *testing.T) {
	bothReaders(t, whatIsNoPageIsRefusedWithAdvice)
}

func whatIsNoPageIsRefusedWithAdvice(t *testing.T, open opener) {
	directory := t.TempDir()
	short := filepath.Join(directory, "short")
	if err := os.WriteFile(short, make([]byte, 100), 0o600); err != nil {
		t.Fatal(err)
	}
	check := func(name string, want chronotick.ErrorCode, message string) {
		t.Helper()
		client, err := open(name)
		if client != nil || !errors.Is(err, want) || !strings.Contains(err.Error(), message) {
			t.Errorf("%q: %v, want %v with %q", name, err, want, message)
		}
	}
	check(filepath.Join(directory, "absent"), chronotick.ErrNotRunning, "Start it with: chronotick-daemon run")
	check(short, chronotick.ErrWrongSize, "is 100 bytes long, a clock page is 128")
	check(directory, chronotick.ErrNotAFile, "is a directory, not a clock page")
	check("a/b", chronotick.ErrBadName, "give a name such as chronotick_shm")
	check("a\x00b", chronotick.ErrBadName, "give a name such as chronotick_shm")

	damaged := filepath.Join(directory, "damaged")
	writePage(t, damaged, []byte(strings.Repeat("\xff", 128)))
	reading, err := attach(t, open, damaged).Now()
	if !errors.Is(err, chronotick.ErrPageCorrupt) || reading.Status != chronotick.NoData {
		t.Errorf("%v with status %v", err, reading.Status)
	}
}

func TestTheEnvironmentNamesThePage(t *testing.T) { bothReaders(t, theEnvironmentNamesThePage) }

func theEnvironmentNamesThePage(t *testing.T, open opener) {
	t.Setenv("CHRONOTICK_SHM", livePage(t, offset))
	if reading := now(t, attach(t, open, "")); reading.Status != chronotick.Synchronized {
		t.Errorf("%v", reading.Status)
	}
}

func TestAClosedClientSaysSo(t *testing.T) { bothReaders(t, aClosedClientSaysSo) }

func aClosedClientSaysSo(t *testing.T, open opener) {
	client := attach(t, open, livePage(t, offset))
	var readers sync.WaitGroup
	for range 4 {
		readers.Add(1)
		go func() {
			defer readers.Done()
			for {
				if _, err := client.Now(); err != nil {
					if !errors.Is(err, chronotick.ErrClosed) {
						t.Error(err)
					}
					return
				}
			}
		}()
	}
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	runtime.GC()
	readers.Wait()
	if err := client.Close(); err != nil {
		t.Error(err)
	}
	_, err := client.Status()
	_, waitErr := client.WaitUntil(context.Background(), time.Now().Add(time.Hour), 0)
	if !errors.Is(err, chronotick.ErrClosed) || !errors.Is(waitErr, chronotick.ErrClosed) {
		t.Errorf("%v %v", err, waitErr)
	}
}

func TestAWaitEndsAtOrAfterItsTarget(t *testing.T) { bothReaders(t, aWaitEndsAtOrAfterItsTarget) }

func aWaitEndsAtOrAfterItsTarget(t *testing.T, open opener) {
	client := attach(t, open, livePage(t, offset))
	for _, tolerance := range []time.Duration{0, 5 * time.Millisecond} {
		for _, span := range []time.Duration{time.Millisecond, 30 * time.Millisecond, 300 * time.Millisecond} {
			target := now(t, client).Corrected().Add(span)
			waited, err := client.WaitUntil(context.Background(), target, tolerance)
			if errors.Is(err, chronotick.ErrAlreadyPast) && span < 300*time.Millisecond {
				continue // Another process held the processor for as long: that is what the error is for.
			}
			if err != nil {
				t.Fatal(err)
			}
			if waited.LateBy < 0 || waited.Reading.Corrected().Sub(target) != waited.LateBy {
				t.Errorf("woke at %v for %v, late by %v", waited.Reading.Corrected(), target, waited.LateBy)
			}
		}
	}
}

func TestAWaitEndsWithItsContext(t *testing.T) { bothReaders(t, aWaitEndsWithItsContext) }

func aWaitEndsWithItsContext(t *testing.T, open opener) {
	client := attach(t, open, livePage(t, offset))
	ctx, cancel := context.WithCancel(context.Background())
	started := make(chan struct{})
	ended := make(chan error)
	go func() {
		close(started)
		_, err := client.WaitUntil(ctx, time.Now().Add(time.Hour), 0)
		ended <- err
	}()
	<-started
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	ctx, cancel = context.WithTimeout(context.Background(), time.Millisecond)
	defer cancel()
	if _, err := client.WaitUntil(ctx, time.Now().Add(time.Hour), 0); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
}

func TestAWaitThatCannotBeIsRefused(t *testing.T) { bothReaders(t, aWaitThatCannotBeIsRefused) }

func aWaitThatCannotBeIsRefused(t *testing.T, open opener) {
	path := livePage(t, offset)
	check := func(target time.Time, tolerance time.Duration, want chronotick.ErrorCode) {
		t.Helper()
		_, err := attach(t, open, path).WaitUntil(context.Background(), target, tolerance)
		if !errors.Is(err, want) {
			t.Errorf("%v, want %v", err, want)
		}
	}
	check(time.Now().Add(-time.Hour), 0, chronotick.ErrAlreadyPast)
	check(time.Unix(0, math.MinInt64), 0, chronotick.ErrAlreadyPast)
	check(time.Now().Add(time.Hour), -1, chronotick.ErrInvalidArgument)
	check(time.Date(3000, 1, 1, 0, 0, 0, 0, time.UTC), 0, chronotick.ErrInvalidArgument)
	disrupted := pageBytes(offset)
	disrupted[72] |= 0x20
	writePage(t, path, disrupted)
	check(time.Now().Add(time.Hour), 0, chronotick.ErrUntrusted)
	check(time.Unix(0, math.MaxInt64), 0, chronotick.ErrUntrusted)
}

func TestTheTimeInOtherWays(t *testing.T) { bothReaders(t, theTimeInOtherWays) }

func theTimeInOtherWays(t *testing.T, open opener) {
	client := attach(t, open, livePage(t, offset))
	reading := now(t, client)
	must := func(r chronotick.Reading, err error) chronotick.Reading {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	later := must(client.At(10 * time.Second))
	if later.CorrectedNS < reading.CorrectedNS+10e9 || later.MaxError() <= reading.MaxError() || later.Age() <= reading.Age() {
		t.Errorf("ten seconds after %+v is %+v", reading, later)
	}
	if !reading.Before(later) || later.Before(reading) || reading.Before(reading) {
		t.Errorf("the order of %+v and %+v", reading, later)
	}
	if again := must(client.AtSystemTime(reading.System())); again != reading {
		t.Errorf("%+v, want %+v", again, reading)
	}
	if r := must(client.NowWithin(time.Second)); r.CorrectedNS < reading.CorrectedNS {
		t.Errorf("%v is before %v", r.CorrectedNS, reading.CorrectedNS)
	}
	if ns, err := client.NowNS(); err != nil || ns < reading.CorrectedNS {
		t.Errorf("%d %v", ns, err)
	}
	if r := must(client.WaitSynchronized(context.Background())); r.Status != chronotick.Synchronized {
		t.Errorf("%v", r.Status)
	}
	if _, err := client.NowWithin(1); !errors.Is(err, chronotick.ErrUntrusted) {
		t.Error(err)
	}
	if _, err := client.NowWithin(-1); !errors.Is(err, chronotick.ErrInvalidArgument) {
		t.Error(err)
	}
}

func TestAClockThatIsNotUsable(t *testing.T) { bothReaders(t, aClockThatIsNotUsable) }

func aClockThatIsNotUsable(t *testing.T, open opener) {
	path := livePage(t, offset)
	disrupted := pageBytes(offset)
	disrupted[72] |= flagDisrupted
	writePage(t, path, disrupted)
	client := attach(t, open, path)
	if ns, err := client.NowNS(); ns != 0 || !errors.Is(err, chronotick.ErrUntrusted) {
		t.Errorf("%d %v", ns, err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 25*time.Millisecond)
	defer cancel()
	if _, err := client.WaitSynchronized(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	waited := make(chan error)
	go func() {
		_, err := client.WaitSynchronized(context.Background())
		waited <- err
	}()
	writePage(t, path, pageBytes(offset))
	if err := <-waited; err != nil {
		t.Error(err)
	}
}

// A program that truncates the page must not end those who read it.
func TestATruncatedPageIsAnErrorOrTheLastGoodOne(t *testing.T) { bothReaders(t, aTruncatedPage) }

func aTruncatedPage(t *testing.T, open opener) {
	path := livePage(t, offset)
	client := attach(t, open, path)
	now(t, client)
	if err := os.Truncate(path, 0); err != nil {
		t.Fatal(err)
	}
	if reading, err := client.Now(); err == nil && reading.Status != chronotick.Synchronized {
		t.Errorf("%v", reading.Status)
	}
	// Go's own handling of faults is as it was: a nil pointer is a panic that can be recovered from.
	defer func() {
		if recover() == nil {
			t.Error("a nil pointer was read")
		}
	}()
	var none *int
	_ = *none
}
