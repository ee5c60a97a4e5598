//go:build cgo

package chronotick_test

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"math"
	"math/rand/v2"
	"path/filepath"
	"testing"

	chronotick "github.com/minoots/minoots/bindings-go"
)

// What the two readers make of the same page and clocks must be the same to the last bit, an error to its code.
func checkSame(t *testing.T, page []byte, clocks chronotick.Clocks) (readable bool) {
	t.Helper()
	fromC, errC := chronotick.Evaluate(page, clocks)
	pure, errPure := chronotick.EvaluatePure(page, clocks)
	var code, codePure chronotick.ErrorCode
	errors.As(errC, &code)
	errors.As(errPure, &codePure)
	if code != codePure || fromC != pure || fromC.Sigma() != pure.Sigma() {
		t.Fatalf("page %x at %+v:\nC    %+v %v\npure %+v %v", page, clocks, fromC, errC, pure, errPure)
	}
	return errC == nil
}

func TestBothReadersAgreeOnRandomPages(t *testing.T) {
	var list struct{ Cases []conformanceCase }
	readJSON(t, filepath.Join("..", "tests", "conformance", "pages.json"), &list)
	var bases [][]byte
	for _, c := range list.Cases {
		if page, err := hex.DecodeString(c.Page); err == nil && len(page) == 128 {
			bases = append(bases, page)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	clock := func() int64 {
		// Small and near the edges as well as anywhere.
		return int64(random.Uint64()) >> random.IntN(64)
	}
	readable := 0
	const pages = 200_000
	for range pages {
		page := append([]byte(nil), bases[random.IntN(len(bases))]...)
		for range random.IntN(4) {
			mutate(random, page)
		}
		clocks := chronotick.Clocks{RealtimeNS: clock(), BoottimeNS: clock(), MonotonicRawNS: clock()}
		if random.IntN(2) == 0 {
			ticks := clock()
			clocks.Counter = &ticks
		}
		if random.IntN(2) == 0 {
			clocks.RealtimeNS = 1_760_272_795_000_000_000 + clock()>>20
		}
		if checkSame(t, page, clocks) {
			readable++
		}
	}
	if readable < pages/10 {
		t.Errorf("only %d of %d pages were readable: the test compares little", readable, pages)
	}
}

// mutate changes one field of a page, to something plausible or to anything.
func mutate(random *rand.Rand, page []byte) {
	word := page[random.IntN(16)*8:]
	switch random.IntN(6) {
	case 0:
		binary.LittleEndian.PutUint64(word, random.Uint64())
	case 1:
		page[random.IntN(128)] ^= 1 << random.IntN(8)
	case 2:
		binary.LittleEndian.PutUint64(page[2*8:], math.Float64bits(random.NormFloat64()))
		binary.LittleEndian.PutUint64(page[3*8:], math.Float64bits(random.NormFloat64()*1e-5))
	case 3:
		binary.LittleEndian.PutUint64(page[4*8:], math.Float64bits(random.ExpFloat64()*1e-4))
		binary.LittleEndian.PutUint64(page[5*8:], math.Float64bits(random.ExpFloat64()*1e-7))
		binary.LittleEndian.PutUint32(page[108:], math.Float32bits(float32(random.ExpFloat64()*1e-3)))
	case 4:
		// Another anchor clock with another rate and shift.
		page[87] = byte(random.IntN(256))
		binary.LittleEndian.PutUint32(page[116:], random.Uint32())
		binary.LittleEndian.PutUint64(page[120:], random.Uint64()>>random.IntN(64))
	case 5:
		binary.LittleEndian.PutUint64(word, math.Float64bits((random.Float64()-0.5)*math.Pow(10, float64(random.IntN(12)))))
	}
}

// FuzzBothReadersAgree is for `go test -fuzz`; the seeds run as a plain test.
func FuzzBothReadersAgree(f *testing.F) {
	f.Add(pageBytes(offset), int64(0), int64(1))
	f.Add(make([]byte, 128), int64(math.MinInt64), int64(math.MaxInt64))
	f.Fuzz(func(t *testing.T, page []byte, clock, ticks int64) {
		checkSame(t, page, chronotick.Clocks{RealtimeNS: clock, BoottimeNS: clock, MonotonicRawNS: clock, Counter: &ticks})
	})
}
