// Command bench measures a reading of the clock page against time.Now, in paired batches on one core.
//
//	go run ./internal/bench PAGE [ENDING]
//
// ENDING is put behind the names of the figures. One JSON line for each figure.
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"os"
	"runtime"
	"slices"
	"syscall"
	"time"
	"unsafe"

	chronotick "github.com/minoots/minoots/bindings-go"
)

const (
	batches = 401
	calls   = 2000
)

func main() {
	log.SetFlags(0)
	if len(os.Args) != 2 && len(os.Args) != 3 {
		log.Fatal("usage: bench PAGE [ENDING]")
	}
	page, ending := os.Args[1], ""
	if len(os.Args) == 3 {
		ending = os.Args[2]
	}
	pinToOneCore()
	compare("read.go.cgo"+ending, page, chronotick.Attach)
	compare("read.go.pure"+ending, page, chronotick.AttachPure)
}

// pinToOneCore keeps the batches of a pair comparable. Where the kernel refuses, the figures are noisier, that is all.
func pinToOneCore() {
	runtime.LockOSThread()
	runtime.GOMAXPROCS(1)
	one := [16]uint64{}
	if _, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_GETAFFINITY, 0, unsafe.Sizeof(one), uintptr(unsafe.Pointer(&one))); errno != 0 {
		return
	}
	for i, word := range one {
		if word != 0 {
			one = [16]uint64{}
			one[i] = word & -word
			break
		}
	}
	syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, 0, unsafe.Sizeof(one), uintptr(unsafe.Pointer(&one)))
}

var (
	keepReading chronotick.Reading
	keepTime    time.Time
)

func compare(name, page string, attach func(string) (*chronotick.Client, error)) {
	client, err := attach(page)
	if err != nil {
		log.Fatal(err)
	}
	defer client.Close()
	subject := func() {
		for range calls {
			if keepReading, err = client.Now(); err != nil {
				log.Fatal(err)
			}
		}
	}
	baseline := func() {
		for range calls {
			keepTime = time.Now()
		}
	}
	perCall(subject)
	perCall(baseline)
	var values, baselines, ratios []float64
	for range batches {
		value, base := perCall(subject), perCall(baseline)
		values, baselines, ratios = append(values, value), append(baselines, base), append(ratios, value/base)
	}
	line, err := json.Marshal(map[string]any{
		"name": name, "value": rounded(median(values)), "unit": "ns", "baseline": "time.Now()",
		"baseline_value": rounded(median(baselines)), "ratio": rounded(median(ratios)),
	})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(string(line))
}

func perCall(batch func()) float64 {
	start := time.Now()
	batch()
	return float64(time.Since(start).Nanoseconds()) / calls
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

func rounded(x float64) float64 { return float64(int64(x*1000+0.5)) / 1000 }
