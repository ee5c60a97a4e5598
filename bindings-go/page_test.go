package chronotick_test

import (
	"encoding/binary"
	"maps"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/minoots/minoots/bindings-go/internal/header"
)

// The page as docs/formats/clock-page.md draws it; the header is held to it here.
func TestTheHeaderLaysThePageOutAsTheFormatSays(t *testing.T) {
	want := map[string]uintptr{
		"corrected_timestamp": 0, "system_timestamp": 8, "offset_correction": 16, "drift_rate": 24,
		"offset_uncertainty": 32, "drift_uncertainty": 40, "prediction_time": 48, "valid_until": 56,
		"confidence": 64, "sequence": 68, "flags": 72, "source": 76, "measurement_count": 80, "magic": 84,
		"anchor_clock": 87, "last_ntp_sync": 88, "daemon_uptime": 96, "total_corrections": 104, "max_error": 108,
		"average_latency_ms": 112, "anchor_rate": 116, "anchor": 120,
	}
	if got := header.PageOffsets(); !maps.Equal(got, want) {
		t.Errorf("offsets in the header are %v, in the format %v", got, want)
	}
	if header.PageSize != 128 || header.PageSizeMacro != 128 {
		t.Errorf("a page is %d bytes in the header (CHRONOTICK_PAGE_SIZE %d), 128 in the format", header.PageSize,
			header.PageSizeMacro)
	}
	numbers := map[string]uint32{
		"CHRONOTICK_ERROR_NOT_RUNNING": 2, "CHRONOTICK_ERROR_INTERNAL": 14, "CHRONOTICK_STATUS_SYNCHRONIZED": 0,
		"CHRONOTICK_STATUS_NO_DATA": 6, "CHRONOTICK_SOURCE_FUSION": 4, "CHRONOTICK_FLAG_VALID": 0x01,
		"CHRONOTICK_FLAG_AUTHENTICATED": 0x400,
	}
	if got := header.Numbers(); !maps.Equal(got, numbers) {
		t.Errorf("numbers in the header are %v, in the format %v", got, numbers)
	}
}

// livePage writes a page as a synchronized daemon would have written it just now, and gives its path. It is not anchored,
// so the clocks of the machine other than the system clock need not be read. Every field is put where the header says.
func livePage(t testing.TB, offset time.Duration) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "page")
	writePage(t, path, pageBytes(offset))
	return path
}

func pageBytes(offset time.Duration) []byte {
	at := header.PageOffsets()
	page := make([]byte, header.PageSize)
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
	u32("flags", header.FlagsSynchronized)
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
