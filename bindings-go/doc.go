// Package chronotick reads corrected time, with a hard bound on its error, from the clock page that chronotick-daemon
// publishes in shared memory.
//
// A [Reading] is a value and a [Status]: look at both. One [Client] serves all goroutines.
//
// With cgo the page is read by the static library of this repository, which README.md says how to get; without it, or by
// [AttachPure], in Go alone.
package chronotick
