//go:build cgo

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

// Numbers are the enumerators and flags that the package has numbers of its own for.
var Numbers = map[string]uint32{
	"ERROR_INVALID_ARGUMENT":   C.CHRONOTICK_ERROR_INVALID_ARGUMENT,
	"ERROR_NOT_RUNNING":        C.CHRONOTICK_ERROR_NOT_RUNNING,
	"ERROR_BAD_NAME":           C.CHRONOTICK_ERROR_BAD_NAME,
	"ERROR_NOT_A_FILE":         C.CHRONOTICK_ERROR_NOT_A_FILE,
	"ERROR_WRONG_SIZE":         C.CHRONOTICK_ERROR_WRONG_SIZE,
	"ERROR_WRONG_OWNER":        C.CHRONOTICK_ERROR_WRONG_OWNER,
	"ERROR_IO":                 C.CHRONOTICK_ERROR_IO,
	"ERROR_PAGE_CORRUPT":       C.CHRONOTICK_ERROR_PAGE_CORRUPT,
	"ERROR_PAGE_VERSION":       C.CHRONOTICK_ERROR_PAGE_VERSION,
	"ERROR_ANCHOR_UNAVAILABLE": C.CHRONOTICK_ERROR_ANCHOR_UNAVAILABLE,
	"ERROR_WRITER_DIED":        C.CHRONOTICK_ERROR_WRITER_DIED,
	"ERROR_ALREADY_PAST":       C.CHRONOTICK_ERROR_ALREADY_PAST,
	"ERROR_UNTRUSTED":          C.CHRONOTICK_ERROR_UNTRUSTED,
	"ERROR_INTERNAL":           C.CHRONOTICK_ERROR_INTERNAL,
	"STATUS_SYNCHRONIZED":      C.CHRONOTICK_STATUS_SYNCHRONIZED,
	"STATUS_WARMING_UP":        C.CHRONOTICK_STATUS_WARMING_UP,
	"STATUS_HOLDOVER":          C.CHRONOTICK_STATUS_HOLDOVER,
	"STATUS_DISRUPTED":         C.CHRONOTICK_STATUS_DISRUPTED,
	"STATUS_EXPIRED":           C.CHRONOTICK_STATUS_EXPIRED,
	"STATUS_LEGACY":            C.CHRONOTICK_STATUS_LEGACY,
	"STATUS_NO_DATA":           C.CHRONOTICK_STATUS_NO_DATA,
	"SOURCE_NO_DATA":           C.CHRONOTICK_SOURCE_NO_DATA,
	"SOURCE_NTP":               C.CHRONOTICK_SOURCE_NTP,
	"SOURCE_CPU_MODEL":         C.CHRONOTICK_SOURCE_CPU_MODEL,
	"SOURCE_GPU_MODEL":         C.CHRONOTICK_SOURCE_GPU_MODEL,
	"SOURCE_FUSION":            C.CHRONOTICK_SOURCE_FUSION,
	"FLAG_VALID":               C.CHRONOTICK_FLAG_VALID,
	"FLAG_WARMUP_COMPLETE":     C.CHRONOTICK_FLAG_WARMUP_COMPLETE,
	"FLAG_DISRUPTED":           C.CHRONOTICK_FLAG_DISRUPTED,
}
