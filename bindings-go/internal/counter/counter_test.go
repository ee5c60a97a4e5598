package counter

import (
	"runtime"
	"testing"
)

func TestTheCounterRuns(t *testing.T) {
	before, ok := Read()
	if !ok {
		t.Skipf("skipped: %s has no counter that a program can read", runtime.GOARCH)
	}
	for range 1_000_000 {
		if now, _ := Read(); now > before {
			return
		}
	}
	t.Errorf("the counter stands at %d", before)
}
