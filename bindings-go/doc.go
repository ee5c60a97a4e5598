// Package chronotick reads corrected time, with a hard bound on its error, from the clock page that chronotick-daemon
// publishes in shared memory.
//
// A [Reading] is a value and a [Status]: look at both. One [Client] serves all goroutines.
//
// The package needs cgo and the static library of this repository; README.md says how to get it.
package chronotick
