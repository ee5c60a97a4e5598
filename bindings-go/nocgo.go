//go:build !cgo

package chronotick

// Without cgo there is nothing to read the page with; the name is the message.
var _ = chronotick_needs_CGO_ENABLED_1_and_libchronotick_ffi_see_README
