package chronotick_test

import (
	"encoding/binary"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// The page as docs/formats/clock-page.md draws it; header_test.go holds the C header to it.
var offsets = map[string]uintptr{
	"corrected_timestamp": 0, "system_timestamp": 8, "offset_correction": 16, "drift_rate": 24,
	"offset_uncertainty": 32, "drift_uncertainty": 40, "prediction_time": 48, "valid_until": 56,
	"confidence": 64, "sequence": 68, "flags": 72, "source": 76, "measurement_count": 80, "magic": 84,
	"anchor_clock": 87, "last_ntp_sync": 88, "daemon_uptime": 96, "total_corrections": 104, "max_error": 108,
	"average_latency_ms": 112, "anchor_rate": 116, "anchor": 120,
}

const (
	flagValid          = 0x01
	flagNTPReady       = 0x02
	flagWarmupComplete = 0x08
	flagDisrupted      = 0x20
)

// livePage writes a page as a synchronized daemon would have written it just now, and gives its path. It is not anchored,
// so the clocks of the machine other than the system clock need not be read. Every field is put where the header says.
func livePage(t testing.TB, offset time.Duration) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "page")
	writePage(t, path, pageBytes(offset))
	return path
}

func pageBytes(offset time.Duration) []byte {
	at := offsets
	page := make([]byte, 128)
	f64 := func(field string, v float64) { binary.LittleEndian.PutUint64(page[at[field]:], math.Float64bits(v)) }
	f32 := func(field string, v float32) { binary.LittleEndian.PutUint32(page[at[field]:], math.Float32bits(v)) }
	u32 := func(field string, v uint32) { binary.LittleEndian.PutUint32(page[at[field]:], v) }
	second := float64(time.Now().Unix())
	f64("offset_correction", offset.Seconds())
	f64("offset_uncertainty", 1e-5)
	f64("prediction_time", second)
	f64("valid_until", second+3600)
	f32("confidence", 0.75)
	u32("sequence", 2)
	u32("flags", flagValid|flagNTPReady|flagWarmupComplete)
	u32("source", 1)
	copy(page[at["magic"]:], []byte{'C', 'T', 2})
	f32("max_error", 0.001)
	return page
}

// writePage puts a whole new object under the name, as a restarted daemon does.
func writePage(t testing.TB, path string, page []byte) {
	t.Helper()
	staged := path + ".new"
	if err := os.WriteFile(staged, page, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(staged, path); err != nil {
		t.Fatal(err)
	}
}
