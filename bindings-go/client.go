//go:build cgo

package chronotick

import (
	"runtime"
	"strings"
	"sync/atomic"
)

// Client reads the clock page. It serves any number of goroutines at once.
type Client struct {
	handle atomic.Pointer[handle]
}

// Attach opens the clock page with this name or absolute path. The empty name is the page named by $CHRONOTICK_SHM, or
// chronotick_shm without it. A page that a restarted daemon makes anew is found by itself.
func Attach(name string) (*Client, error) {
	if strings.ContainsRune(name, 0) {
		return nil, &Error{Code: ErrBadName, Message: "the clock page's name holds a NUL byte: give a name such as " +
			"chronotick_shm, or an absolute path"}
	}
	opened, err := openHandle(name)
	if err != nil {
		return nil, err
	}
	h := &handle{client: opened}
	runtime.AddCleanup(h, closeHandle, opened)
	client := &Client{}
	client.handle.Store(h)
	return client, nil
}

// Now reads the time, with its bound, sigma and status. On an error the reading's status is [NoData].
func (c *Client) Now() (Reading, error) {
	h := c.handle.Load()
	if h == nil {
		return Reading{Status: NoData}, ErrClosed
	}
	reading, err := h.now()
	runtime.KeepAlive(h)
	return reading, err
}

// Status reads how far the clock can be trusted now.
func (c *Client) Status() (Status, error) {
	reading, err := c.Now()
	return reading.Status, err
}

// Close ends the use of the client: later calls return [ErrClosed], calls that are under way finish. The page is unmapped
// when the garbage collector finds that none is. Closing twice does nothing.
func (c *Client) Close() error {
	c.handle.Store(nil)
	return nil
}
