//go:build cgo

package chronotick_test

import (
	"maps"
	"testing"

	chronotick "github.com/minoots/minoots/bindings-go"
	"github.com/minoots/minoots/bindings-go/internal/header"
)

// The page as docs/formats/clock-page.md draws it; the header is held to it here.
func TestTheHeaderLaysThePageOutAsTheFormatSays(t *testing.T) {
	if got := header.PageOffsets(); !maps.Equal(got, offsets) {
		t.Errorf("offsets in the header are %v, in the format %v", got, offsets)
	}
	if header.PageSize != 128 || header.PageSizeMacro != 128 {
		t.Errorf("a page is %d bytes in the header (CHRONOTICK_PAGE_SIZE %d), 128 in the format", header.PageSize,
			header.PageSizeMacro)
	}
	for name, want := range numbers {
		if got := header.Numbers[name]; got != want {
			t.Errorf("%s is %d in the header, %d in Go", name, got, want)
		}
	}
	if len(header.Numbers) != len(numbers) {
		t.Errorf("%d numbers in the header, %d in Go", len(header.Numbers), len(numbers))
	}
}

// The package's own numbers; the words are checked by the conformance list, whose errors and statuses are words.
var numbers = map[string]uint32{
	"ERROR_INVALID_ARGUMENT": uint32(chronotick.ErrInvalidArgument), "ERROR_NOT_RUNNING": uint32(chronotick.ErrNotRunning),
	"ERROR_BAD_NAME": uint32(chronotick.ErrBadName), "ERROR_NOT_A_FILE": uint32(chronotick.ErrNotAFile),
	"ERROR_WRONG_SIZE": uint32(chronotick.ErrWrongSize), "ERROR_WRONG_OWNER": uint32(chronotick.ErrWrongOwner),
	"ERROR_IO": uint32(chronotick.ErrIO), "ERROR_PAGE_CORRUPT": uint32(chronotick.ErrPageCorrupt),
	"ERROR_PAGE_VERSION": uint32(chronotick.ErrPageVersion), "ERROR_ANCHOR_UNAVAILABLE": uint32(chronotick.ErrAnchorUnavailable),
	"ERROR_WRITER_DIED": uint32(chronotick.ErrWriterDied), "ERROR_ALREADY_PAST": uint32(chronotick.ErrAlreadyPast),
	"ERROR_UNTRUSTED": uint32(chronotick.ErrUntrusted), "ERROR_INTERNAL": uint32(chronotick.ErrInternal),
	"STATUS_SYNCHRONIZED": uint32(chronotick.Synchronized), "STATUS_WARMING_UP": uint32(chronotick.WarmingUp),
	"STATUS_HOLDOVER": uint32(chronotick.Holdover), "STATUS_DISRUPTED": uint32(chronotick.Disrupted),
	"STATUS_EXPIRED": uint32(chronotick.Expired), "STATUS_LEGACY": uint32(chronotick.Legacy),
	"STATUS_NO_DATA": uint32(chronotick.NoData),
	"SOURCE_NO_DATA": uint32(chronotick.SourceNoData), "SOURCE_NTP": uint32(chronotick.SourceNTP),
	"SOURCE_CPU_MODEL": uint32(chronotick.SourceCPUModel), "SOURCE_GPU_MODEL": uint32(chronotick.SourceGPUModel),
	"SOURCE_FUSION": uint32(chronotick.SourceFusion),
	"FLAG_VALID":    flagValid, "FLAG_WARMUP_COMPLETE": flagWarmupComplete, "FLAG_DISRUPTED": flagDisrupted,
}
