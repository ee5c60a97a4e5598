//go:build amd64 || arm64

// Package counter reads the processor's hardware counter. It is a package of its own since one that uses cgo can have no
// Go assembly.
package counter

func read() int64

// Read gives the ticks of the counter: the TSC of x86-64, CNTVCT_EL0 of aarch64.
func Read() (ticks int64, ok bool) { return read(), true }
