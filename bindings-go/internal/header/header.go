// Package header tells the tests what the C compiler makes of include/chronotick.h, since test files cannot use cgo.
package header

/*
#cgo CFLAGS: -std=c11 -I${SRCDIR}/../../../include
#include "chronotick.h"
*/
import "C"

import "unsafe"

// PageSize is sizeof(struct chronotick_page).
const PageSize = C.sizeof_struct_chronotick_page

// PageSizeMacro is CHRONOTICK_PAGE_SIZE.
const PageSizeMacro = C.CHRONOTICK_PAGE_SIZE

// FlagsSynchronized are the flags of a page that is measured and trusted.
const FlagsSynchronized = C.CHRONOTICK_FLAG_VALID | C.CHRONOTICK_FLAG_NTP_READY | C.CHRONOTICK_FLAG_WARMUP_COMPLETE

// PageOffsets is offsetof of every field of struct chronotick_page.
func PageOffsets() map[string]uintptr {
	var page C.struct_chronotick_page
	return map[string]uintptr{
		"corrected_timestamp": unsafe.Offsetof(page.corrected_timestamp),
		"system_timestamp":    unsafe.Offsetof(page.system_timestamp),
		"offset_correction":   unsafe.Offsetof(page.offset_correction),
		"drift_rate":          unsafe.Offsetof(page.drift_rate),
		"offset_uncertainty":  unsafe.Offsetof(page.offset_uncertainty),
		"drift_uncertainty":   unsafe.Offsetof(page.drift_uncertainty),
		"prediction_time":     unsafe.Offsetof(page.prediction_time),
		"valid_until":         unsafe.Offsetof(page.valid_until),
		"confidence":          unsafe.Offsetof(page.confidence),
		"sequence":            unsafe.Offsetof(page.sequence),
		"flags":               unsafe.Offsetof(page.flags),
		"source":              unsafe.Offsetof(page.source),
		"measurement_count":   unsafe.Offsetof(page.measurement_count),
		"magic":               unsafe.Offsetof(page.magic),
		"anchor_clock":        unsafe.Offsetof(page.anchor_clock),
		"last_ntp_sync":       unsafe.Offsetof(page.last_ntp_sync),
		"daemon_uptime":       unsafe.Offsetof(page.daemon_uptime),
		"total_corrections":   unsafe.Offsetof(page.total_corrections),
		"max_error":           unsafe.Offsetof(page.max_error),
		"average_latency_ms":  unsafe.Offsetof(page.average_latency_ms),
		"anchor_rate":         unsafe.Offsetof(page.anchor_rate),
		"anchor":              unsafe.Offsetof(page.anchor),
	}
}

// Numbers are enumerators that must never change.
func Numbers() map[string]uint32 {
	return map[string]uint32{
		"CHRONOTICK_ERROR_NOT_RUNNING":   C.CHRONOTICK_ERROR_NOT_RUNNING,
		"CHRONOTICK_ERROR_INTERNAL":      C.CHRONOTICK_ERROR_INTERNAL,
		"CHRONOTICK_STATUS_SYNCHRONIZED": C.CHRONOTICK_STATUS_SYNCHRONIZED,
		"CHRONOTICK_STATUS_NO_DATA":      C.CHRONOTICK_STATUS_NO_DATA,
		"CHRONOTICK_SOURCE_FUSION":       C.CHRONOTICK_SOURCE_FUSION,
		"CHRONOTICK_FLAG_VALID":          C.CHRONOTICK_FLAG_VALID,
		"CHRONOTICK_FLAG_AUTHENTICATED":  C.CHRONOTICK_FLAG_AUTHENTICATED,
	}
}
