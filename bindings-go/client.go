package chronotick

import (
	"strings"
	"sync/atomic"
	"time"
)

// Client reads the clock page. It serves any number of goroutines at once.
type Client struct {
	attached atomic.Pointer[attached]
}

// attached is what a client reads the page with: the C library, or Go alone. One of them is nil.
type attached struct {
	library *library
	page    *pageReader
}

// Attach opens the clock page with this name or absolute path. The empty name is the page named by $CHRONOTICK_SHM, or
// chronotick_shm without it. A page that a restarted daemon makes anew is found by itself. With cgo the page is read by the
// C library, without it as by [AttachPure].
func Attach(name string) (*Client, error) { return attach(name, openDefault) }

// AttachPure is [Attach] without the C library: the page is read in Go alone, cheaper by the cost of a call into C. Both
// give the same readings.
func AttachPure(name string) (*Client, error) { return attach(name, openPure) }

func openPure(name string) (*attached, error) {
	page, err := openPage(name)
	return &attached{page: page}, err
}

func attach(name string, open func(string) (*attached, error)) (*Client, error) {
	if strings.ContainsRune(name, 0) {
		return nil, failed(ErrBadName, "the clock page's name holds a NUL byte: give a name such as chronotick_shm, or an "+
			"absolute path")
	}
	opened, err := open(name)
	if err != nil {
		return nil, err
	}
	client := &Client{}
	client.attached.Store(opened)
	return client, nil
}

// Now reads the time, with its bound, sigma and status. On an error the reading's status is [NoData].
func (c *Client) Now() (reading Reading, err error) {
	switch a := c.attached.Load(); {
	case a == nil:
		err = ErrClosed
	case a.page != nil:
		err = a.page.now(&reading)
	default:
		err = a.library.now(&reading)
	}
	if err != nil {
		return Reading{Status: NoData}, err
	}
	return reading, nil
}

// NowNS reads the time alone, Unix ns. A bare number carries no status: where the clock is disrupted, expired or without
// data it is [ErrUntrusted].
func (c *Client) NowNS() (int64, error) {
	reading, err := c.Now()
	if err == nil && !reading.Status.usable() {
		err = failed(ErrUntrusted, "the clock is %s: wait until `chronotick-daemon status` says synchronized", reading.Status)
	}
	if err != nil {
		return 0, err
	}
	return reading.CorrectedNS, nil
}

// NowWithin reads the time if it is known to within maxError on each side, and fails with [ErrUntrusted] otherwise.
func (c *Client) NowWithin(maxError time.Duration) (Reading, error) {
	if maxError < 0 {
		return Reading{Status: NoData}, failed(ErrInvalidArgument, "maxError is negative: give how far off the time may be")
	}
	reading, err := c.Now()
	if err == nil && reading.MaxError() > maxError {
		known := "without any bound"
		if reading.Bounded() {
			known = "to within " + reading.MaxError().String()
		}
		err = failed(ErrUntrusted, "the time is known %s, and %v was asked for: allow more, or let the daemon measure longer, "+
			"against nearer servers (`chronotick-daemon status`)", known, maxError)
	}
	if err != nil {
		return Reading{Status: NoData}, err
	}
	return reading, nil
}

// At is the reading for the moment fromNow away, past (negative) or future: its bound grows with the distance from the
// correction, and its status is the one that holds then if nothing is published until then.
func (c *Client) At(fromNow time.Duration) (reading Reading, err error) {
	switch a := c.attached.Load(); {
	case a == nil:
		err = ErrClosed
	case a.page != nil:
		err = a.page.at(int64(fromNow), &reading)
	default:
		err = a.library.at(int64(fromNow), &reading)
	}
	if err != nil {
		return Reading{Status: NoData}, err
	}
	return reading, nil
}

// AtSystemTime is the reading for the moment at which the system clock showed, or will show, system. It holds where the
// system clock was not stepped between that moment and the page's prediction time.
func (c *Client) AtSystemTime(system time.Time) (reading Reading, err error) {
	systemNS, err := unixNanoseconds(system)
	if err != nil {
		return Reading{Status: NoData}, err
	}
	switch a := c.attached.Load(); {
	case a == nil:
		err = ErrClosed
	case a.page != nil:
		err = a.page.atSystemTime(systemNS, &reading)
	default:
		err = a.library.atSystemTime(systemNS, &reading)
	}
	if err != nil {
		return Reading{Status: NoData}, err
	}
	return reading, nil
}

func unixNanoseconds(t time.Time) (int64, error) {
	ns := t.UnixNano()
	if !time.Unix(0, ns).Equal(t) {
		return 0, failed(ErrInvalidArgument, "%v is outside the years 1678 to 2262", t)
	}
	return ns, nil
}

// Status reads how far the clock can be trusted now.
func (c *Client) Status() (Status, error) {
	reading, err := c.Now()
	return reading.Status, err
}

// Close ends the use of the client: later calls return [ErrClosed], calls that are under way finish. The page is unmapped
// when the garbage collector finds that none is. Closing twice does nothing.
func (c *Client) Close() error {
	c.attached.Store(nil)
	return nil
}

// Evaluate computes the reading that a client would make of a page with these bytes at these clock readings. It reads
// no clock.
func Evaluate(page []byte, clocks Clocks) (Reading, error) { return evaluateDefault(page, clocks) }

// EvaluatePure is [Evaluate] without the C library.
func EvaluatePure(page []byte, clocks Clocks) (Reading, error) { return evaluatePure(page, clocks) }

// Version is the version of the library, such as "0.1.0".
func Version() string { return version }
