package chronotick

// This file is the one place that calls C: how the library is linked, and how its results become Go's.

/*
#cgo CFLAGS: -std=c11 -I${SRCDIR}/../include
#cgo LDFLAGS: -L${SRCDIR}/../target/release -L${SRCDIR}/../target/debug -l:libchronotick_ffi.a -lm -lpthread -ldl

// A pointer that C does not keep need not move the value it points to onto the heap.
#cgo noescape go_chronotick_now
#cgo noescape go_chronotick_at
#cgo noescape go_chronotick_at_system_time
#cgo noescape go_chronotick_evaluate
#cgo nocallback go_chronotick_open
#cgo nocallback go_chronotick_now
#cgo nocallback go_chronotick_at
#cgo nocallback go_chronotick_at_system_time
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

static struct go_result go_chronotick_at(
	const struct chronotick_client *client, int64_t from_now, struct chronotick_reading *out) {
	return go_chronotick_result(chronotick_at(client, from_now, out));
}

static struct go_result go_chronotick_at_system_time(
	const struct chronotick_client *client, int64_t system, struct chronotick_reading *out) {
	return go_chronotick_result(chronotick_at_system_time(client, system, out));
}

static struct go_result go_chronotick_evaluate(
	const uint8_t *page, size_t length, const struct chronotick_clocks *clocks, struct chronotick_reading *out) {
	return go_chronotick_result(chronotick_evaluate(page, length, clocks, out));
}
*/
import "C"

import (
	"runtime"
	"unsafe"
)

// library is an open client of the C library. It is closed when nothing refers to it any more.
type library struct {
	client *C.struct_chronotick_client
}

func openDefault(name string) (*attached, error) {
	var cName *C.char
	if name != "" {
		cName = C.CString(name)
		defer C.free(unsafe.Pointer(cName))
	}
	var client *C.struct_chronotick_client
	if err := failure(C.go_chronotick_open(cName, &client)); err != nil {
		return nil, err
	}
	l := &library{client: client}
	// Only a panic inside the library could make closing fail, and there is nobody to tell.
	runtime.AddCleanup(l, func(client *C.struct_chronotick_client) { C.chronotick_client_close(client) }, client)
	return &attached{library: l}, nil
}

func (l *library) now(reading *Reading) error {
	var fromC C.struct_chronotick_reading
	result := C.go_chronotick_now(l.client, &fromC)
	return l.finish(result, &fromC, reading)
}

func (l *library) at(fromNowNS int64, reading *Reading) error {
	var fromC C.struct_chronotick_reading
	result := C.go_chronotick_at(l.client, C.int64_t(fromNowNS), &fromC)
	return l.finish(result, &fromC, reading)
}

func (l *library) atSystemTime(systemNS int64, reading *Reading) error {
	var fromC C.struct_chronotick_reading
	result := C.go_chronotick_at_system_time(l.client, C.int64_t(systemNS), &fromC)
	return l.finish(result, &fromC, reading)
}

// finish is after every call: until here the client must not be closed.
func (l *library) finish(result C.struct_go_result, fromC *C.struct_chronotick_reading, reading *Reading) error {
	runtime.KeepAlive(l)
	if result.code != C.CHRONOTICK_OK {
		return failure(result)
	}
	fill(reading, fromC)
	return nil
}

func evaluateDefault(page []byte, clocks Clocks) (Reading, error) {
	given := C.struct_chronotick_clocks{
		realtime_ns:      C.int64_t(clocks.RealtimeNS),
		boottime_ns:      C.int64_t(clocks.BoottimeNS),
		monotonic_raw_ns: C.int64_t(clocks.MonotonicRawNS),
	}
	if clocks.Counter != nil {
		given.counter, given.has_counter = C.int64_t(*clocks.Counter), 1
	}
	var fromC C.struct_chronotick_reading
	bytes := (*C.uint8_t)(unsafe.SliceData(page))
	if err := failure(C.go_chronotick_evaluate(bytes, C.size_t(len(page)), &given, &fromC)); err != nil {
		return Reading{Status: NoData}, err
	}
	var reading Reading
	fill(&reading, &fromC)
	return reading, nil
}

func fill(reading *Reading, r *C.struct_chronotick_reading) {
	*reading = Reading{
		CorrectedNS: int64(r.corrected_ns),
		EarliestNS:  int64(r.earliest_ns),
		LatestNS:    int64(r.latest_ns),
		SystemNS:    int64(r.system_ns),
		DriftRate:   float64(r.drift_rate),
		Confidence:  float32(r.confidence),
		Status:      Status(r.status),
		Source:      Source(r.source),
		uncertainty: uncertainty{
			offset: float64(r.offset_uncertainty), drift: float64(r.drift_uncertainty), elapsedNS: int64(r.age_ns),
		},
	}
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

// version is that of the linked library.
var version = C.GoString(C.chronotick_version())
