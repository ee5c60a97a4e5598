package chronotick

// This file is the one place that calls C: how the library is linked, and how its results become Go's.

/*
#cgo CFLAGS: -std=c11 -I${SRCDIR}/../include
#cgo LDFLAGS: -L${SRCDIR}/../target/release -L${SRCDIR}/../target/debug -l:libchronotick_ffi.a -lm -lpthread -ldl

// A pointer that C does not keep need not move the value it points to onto the heap.
#cgo noescape go_chronotick_now
#cgo noescape go_chronotick_wait_until
#cgo noescape go_chronotick_evaluate
#cgo nocallback go_chronotick_open
#cgo nocallback go_chronotick_now
#cgo nocallback go_chronotick_wait_until
#cgo nocallback go_chronotick_evaluate

#include <stdlib.h>
#include <string.h>
#include "chronotick.h"

// The message of a failure belongs to the thread, and a goroutine may have moved to another one by the time it asks. So
// it is fetched inside the same call. NULL on success, or when there is no memory for it.
struct go_result {
	uint32_t code;
	char *message;
};

static struct go_result go_chronotick_result(uint32_t code) {
	struct go_result result = {code, NULL};
	if (code != CHRONOTICK_OK) {
		const char *message = chronotick_last_error_message();
		size_t length = strlen(message) + 1;
		result.message = malloc(length);
		if (result.message != NULL)
			memcpy(result.message, message, length);
	}
	return result;
}

static struct go_result go_chronotick_open(const char *name, struct chronotick_client **out) {
	return go_chronotick_result(chronotick_client_open(name, out));
}

static struct go_result go_chronotick_now(const struct chronotick_client *client, struct chronotick_reading *out) {
	return go_chronotick_result(chronotick_now(client, out));
}

static struct go_result go_chronotick_wait_until(
	const struct chronotick_client *client, int64_t target, int64_t tolerance, struct chronotick_waited *out) {
	return go_chronotick_result(chronotick_wait_until(client, target, tolerance, out));
}

static struct go_result go_chronotick_evaluate(
	const uint8_t *page, size_t length, const struct chronotick_clocks *clocks, struct chronotick_reading *out) {
	return go_chronotick_result(chronotick_evaluate(page, length, clocks, out));
}
*/
import "C"

import (
	"time"
	"unsafe"
)

// handle is an open client of the C library. It is closed when nothing refers to it any more.
type handle struct {
	client *C.struct_chronotick_client
}

func openHandle(name string) (*C.struct_chronotick_client, error) {
	var cName *C.char
	if name != "" {
		cName = C.CString(name)
		defer C.free(unsafe.Pointer(cName))
	}
	var client *C.struct_chronotick_client
	if err := failure(C.go_chronotick_open(cName, &client)); err != nil {
		return nil, err
	}
	return client, nil
}

func closeHandle(client *C.struct_chronotick_client) {
	// Only a panic inside the library could make this fail, and there is nobody to tell.
	C.chronotick_client_close(client)
}

func (h *handle) now() (Reading, error) {
	var reading C.struct_chronotick_reading
	if err := failure(C.go_chronotick_now(h.client, &reading)); err != nil {
		return Reading{Status: NoData}, err
	}
	return fromC(&reading), nil
}

func (h *handle) waitUntil(targetNS int64, tolerance time.Duration) (Waited, error) {
	var waited C.struct_chronotick_waited
	result := C.go_chronotick_wait_until(h.client, C.int64_t(targetNS), C.int64_t(tolerance), &waited)
	if err := failure(result); err != nil {
		return Waited{}, err
	}
	return Waited{Reading: fromC(&waited.reading), LateBy: time.Duration(waited.late_by_ns)}, nil
}

func evaluate(page []byte, clocks Clocks) (Reading, error) {
	given := C.struct_chronotick_clocks{
		realtime_ns:      C.int64_t(clocks.RealtimeNS),
		boottime_ns:      C.int64_t(clocks.BoottimeNS),
		monotonic_raw_ns: C.int64_t(clocks.MonotonicRawNS),
	}
	if clocks.Counter != nil {
		given.counter, given.has_counter = C.int64_t(*clocks.Counter), 1
	}
	var reading C.struct_chronotick_reading
	bytes := (*C.uint8_t)(unsafe.SliceData(page))
	if err := failure(C.go_chronotick_evaluate(bytes, C.size_t(len(page)), &given, &reading)); err != nil {
		return Reading{Status: NoData}, err
	}
	return fromC(&reading), nil
}

func fromC(r *C.struct_chronotick_reading) Reading {
	reading := Reading{
		Corrected:   time.Unix(0, int64(r.corrected_ns)),
		CorrectedNS: int64(r.corrected_ns),
		EarliestNS:  int64(r.earliest_ns),
		LatestNS:    int64(r.latest_ns),
		Sigma:       time.Duration(r.sigma_ns),
		System:      time.Unix(0, int64(r.system_ns)),
		SystemNS:    int64(r.system_ns),
		DriftRate:   float64(r.drift_rate),
		Confidence:  float32(r.confidence),
		Status:      Status(r.status),
		Source:      Source(r.source),
	}
	if r.earliest_ns != C.INT64_MIN && r.latest_ns != C.INT64_MAX {
		reading.Bounded = true
		reading.Earliest = time.Unix(0, reading.EarliestNS)
		reading.Latest = time.Unix(0, reading.LatestNS)
	}
	return reading
}

func failure(result C.struct_go_result) error {
	if result.code == C.CHRONOTICK_OK {
		return nil
	}
	failed := &Error{Code: ErrorCode(result.code)}
	if result.message != nil {
		failed.Message = C.GoString(result.message)
		C.free(unsafe.Pointer(result.message))
	}
	return failed
}

func errorName(code ErrorCode) string { return C.GoString(C.chronotick_error_name(C.uint32_t(code))) }
func statusName(status Status) string {
	return C.GoString(C.chronotick_status_name(C.uint32_t(status)))
}
func sourceName(source Source) string {
	return C.GoString(C.chronotick_source_name(C.uint32_t(source)))
}

// Version is the version of the linked library, such as "0.1.0".
func Version() string { return C.GoString(C.chronotick_version()) }

// How far a reading can be trusted.
const (
	// Synchronized: measured, and within its time of validity.
	Synchronized Status = C.CHRONOTICK_STATUS_SYNCHRONIZED
	// WarmingUp: measured, but not often enough yet.
	WarmingUp Status = C.CHRONOTICK_STATUS_WARMING_UP
	// Holdover: no fresh measurement; coasting on the model, with a growing bound.
	Holdover Status = C.CHRONOTICK_STATUS_HOLDOVER
	// Disrupted: the clock jumped, or the machine was moved or resumed. Do not use the value.
	Disrupted Status = C.CHRONOTICK_STATUS_DISRUPTED
	// Expired: past its time of validity, or withdrawn by a daemon that stopped.
	Expired Status = C.CHRONOTICK_STATUS_EXPIRED
	// Legacy: an old page, a correction with a sigma but no hard bound.
	Legacy Status = C.CHRONOTICK_STATUS_LEGACY
	// NoData: a daemon is there but has measured nothing.
	NoData Status = C.CHRONOTICK_STATUS_NO_DATA
)

// What a correction was computed from.
const (
	// SourceNoData: nothing measured yet.
	SourceNoData Source = C.CHRONOTICK_SOURCE_NO_DATA
	// SourceNTP: NTP measurements alone.
	SourceNTP Source = C.CHRONOTICK_SOURCE_NTP
	// SourceCPUModel: the short-term model.
	SourceCPUModel Source = C.CHRONOTICK_SOURCE_CPU_MODEL
	// SourceGPUModel: the long-term model.
	SourceGPUModel Source = C.CHRONOTICK_SOURCE_GPU_MODEL
	// SourceFusion: both models, fused.
	SourceFusion Source = C.CHRONOTICK_SOURCE_FUSION
)

// The errors, for errors.Is. Numbers and words are the same in every language.
const (
	// ErrInvalidArgument: an argument is not allowed.
	ErrInvalidArgument ErrorCode = C.CHRONOTICK_ERROR_INVALID_ARGUMENT
	// ErrNotRunning: there is no clock page; the daemon does not run.
	ErrNotRunning ErrorCode = C.CHRONOTICK_ERROR_NOT_RUNNING
	// ErrBadName: the page's name is neither one path component nor an absolute path.
	ErrBadName ErrorCode = C.CHRONOTICK_ERROR_BAD_NAME
	// ErrNotAFile: the object is not a regular file.
	ErrNotAFile ErrorCode = C.CHRONOTICK_ERROR_NOT_A_FILE
	// ErrWrongSize: the object, or the bytes given, are not 128 bytes long.
	ErrWrongSize ErrorCode = C.CHRONOTICK_ERROR_WRONG_SIZE
	// ErrWrongOwner: the object belongs to neither root nor this user.
	ErrWrongOwner ErrorCode = C.CHRONOTICK_ERROR_WRONG_OWNER
	// ErrIO: the operating system refused.
	ErrIO ErrorCode = C.CHRONOTICK_ERROR_IO
	// ErrPageCorrupt: the page holds something that is no clock page.
	ErrPageCorrupt ErrorCode = C.CHRONOTICK_ERROR_PAGE_CORRUPT
	// ErrPageVersion: the page is newer than this library.
	ErrPageVersion ErrorCode = C.CHRONOTICK_ERROR_PAGE_VERSION
	// ErrAnchorUnavailable: the page's anchor clock cannot be read here.
	ErrAnchorUnavailable ErrorCode = C.CHRONOTICK_ERROR_ANCHOR_UNAVAILABLE
	// ErrWriterDied: the page is half written and nobody finishes it.
	ErrWriterDied ErrorCode = C.CHRONOTICK_ERROR_WRITER_DIED
	// ErrAlreadyPast: the target of a wait has passed.
	ErrAlreadyPast ErrorCode = C.CHRONOTICK_ERROR_ALREADY_PAST
	// ErrUntrusted: the clock is not to be trusted now.
	ErrUntrusted ErrorCode = C.CHRONOTICK_ERROR_UNTRUSTED
	// ErrInternal: a defect of the library.
	ErrInternal ErrorCode = C.CHRONOTICK_ERROR_INTERNAL
)
