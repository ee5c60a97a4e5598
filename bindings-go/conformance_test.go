package chronotick_test

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"testing"

	chronotick "github.com/minoots/minoots/bindings-go"
)

func int64Of(t *testing.T, text string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func readJSON(t *testing.T, path string, into any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// evaluator is Evaluate or EvaluatePure.
type evaluator func(page []byte, clocks chronotick.Clocks) (chronotick.Reading, error)

var evaluators = map[string]evaluator{"default": chronotick.Evaluate, "pure": chronotick.EvaluatePure}

type conformanceCase struct {
	Name   string
	Page   string
	Clocks struct {
		RealtimeNS     string  `json:"realtime_ns"`
		BoottimeNS     string  `json:"boottime_ns"`
		MonotonicRawNS string  `json:"monotonic_raw_ns"`
		Counter        *string `json:"counter"`
	}
	Error  string
	Expect *struct {
		Status      string
		Source      string
		CorrectedNS string  `json:"corrected_ns"`
		SystemNS    string  `json:"system_ns"`
		EarliestNS  *string `json:"earliest_ns"`
		LatestNS    *string `json:"latest_ns"`
		SigmaNS     string  `json:"sigma_ns"`
		Confidence  float32
	}
}

func (c *conformanceCase) check(t *testing.T, evaluate evaluator) {
	page, err := hex.DecodeString(c.Page)
	if err != nil {
		t.Fatal(err)
	}
	clocks := chronotick.Clocks{
		RealtimeNS:     int64Of(t, c.Clocks.RealtimeNS),
		BoottimeNS:     int64Of(t, c.Clocks.BoottimeNS),
		MonotonicRawNS: int64Of(t, c.Clocks.MonotonicRawNS),
	}
	if c.Clocks.Counter != nil {
		counter := int64Of(t, *c.Clocks.Counter)
		clocks.Counter = &counter
	}
	got, err := evaluate(page, clocks)
	if c.Error != "" {
		var failed *chronotick.Error
		if !errors.As(err, &failed) || failed.Code.Error() != c.Error || failed.Message == "" {
			t.Errorf("want error %s with a message, got %v", c.Error, err)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	edge := func(text *string, unbounded int64) int64 {
		if text == nil {
			return unbounded
		}
		return int64Of(t, *text)
	}
	want := c.Expect
	same := func(field string, got, want any) {
		if got != want {
			t.Errorf("%s is %v, want %v", field, got, want)
		}
	}
	same("status", got.Status.String(), want.Status)
	same("source", got.Source.String(), want.Source)
	same("corrected", got.CorrectedNS, int64Of(t, want.CorrectedNS))
	same("corrected as a time", got.Corrected().UnixNano(), int64Of(t, want.CorrectedNS))
	same("system", got.SystemNS, int64Of(t, want.SystemNS))
	same("system as a time", got.System().UnixNano(), int64Of(t, want.SystemNS))
	same("earliest", got.EarliestNS, edge(want.EarliestNS, math.MinInt64))
	same("latest", got.LatestNS, edge(want.LatestNS, math.MaxInt64))
	same("bounded", got.Bounded(), want.EarliestNS != nil && want.LatestNS != nil)
	same("sigma", got.Sigma().Nanoseconds(), int64Of(t, want.SigmaNS))
	same("confidence", got.Confidence, want.Confidence)
	if got.Bounded() {
		same("earliest as a time", got.Earliest().UnixNano(), got.EarliestNS)
		same("latest as a time", got.Latest().UnixNano(), got.LatestNS)
	} else {
		same("earliest and latest are zero", got.Earliest().IsZero() && got.Latest().IsZero(), true)
		same("max error", got.MaxError().Nanoseconds(), int64(math.MaxInt64))
	}
}

func TestConformanceList(t *testing.T) {
	var list struct{ Cases []conformanceCase }
	readJSON(t, filepath.Join("..", "tests", "conformance", "pages.json"), &list)
	if len(list.Cases) < 49 {
		t.Fatalf("the list has only %d cases", len(list.Cases))
	}
	for _, c := range list.Cases {
		for name, evaluate := range evaluators {
			t.Run(name+"/"+c.Name, func(t *testing.T) { c.check(t, evaluate) })
		}
	}
}

type oldPage struct {
	Fields struct {
		PredictionTime float64 `json:"prediction_time"`
		ValidUntil     float64 `json:"valid_until"`
		Confidence     float32
		Source         chronotick.Source
	}
	Sigma     map[string]float64 `json:"time_uncertainty_at_delta"`
	Corrected map[string]float64 `json:"corrected_time_at_system_time"`
}

// What the old Python daemon wrote is read as its own client read it.
func TestOldPages(t *testing.T) {
	directory := filepath.Join("..", "..", "shared", "data", "clock-pages")
	if _, err := os.Stat(directory); err != nil {
		t.Skipf("the old daemon's pages are not at %s", directory)
	}
	var pages map[string]oldPage
	readJSON(t, filepath.Join(directory, "expected.json"), &pages)
	if len(pages) == 0 {
		t.Fatal("no pages")
	}
	for name, page := range pages {
		bytes, err := os.ReadFile(filepath.Join(directory, name+".bin"))
		if err != nil {
			t.Fatal(err)
		}
		for reader, evaluate := range evaluators {
			t.Run(reader+"/"+name, func(t *testing.T) { page.check(t, evaluate, bytes) })
		}
	}
}

func (p *oldPage) check(t *testing.T, evaluate evaluator, page []byte) {
	for at, want := range p.Corrected {
		system, err := strconv.ParseFloat(at, 64)
		if err != nil {
			t.Fatal(err)
		}
		elapsed := system - p.Fields.PredictionTime
		status := chronotick.Legacy
		switch {
		case p.Fields.Source == chronotick.SourceNoData:
			status = chronotick.NoData
		case elapsed > p.Fields.ValidUntil-p.Fields.PredictionTime:
			status = chronotick.Expired
		}
		got, err := evaluate(page, chronotick.Clocks{RealtimeNS: int64(system) * 1e9})
		if err != nil {
			t.Fatal(err)
		}
		if got.Status != status || got.Source != p.Fields.Source || got.Bounded() ||
			got.Confidence != p.Fields.Confidence || got.SystemNS != int64(system)*1e9 {
			t.Errorf("at %s: %+v, want %s", at, got, status)
		}
		// The old client computes in f64 of Unix seconds, whose step is 238 ns, and rounds more than once.
		whole, fraction := math.Modf(want)
		if off := got.CorrectedNS - int64(whole)*1e9 - int64(math.Round(fraction*1e9)); off < -500 || off > 500 {
			t.Errorf("at %s: corrected is %d ns from what the old client says", at, off)
		}
		sigma, known := p.Sigma[strconv.FormatFloat(elapsed, 'f', 1, 64)]
		if off := got.Sigma().Nanoseconds() - int64(math.Round(sigma*1e9)); !known || off < -1 || off > 1 {
			t.Errorf("at %s: sigma is %s, the old client says %g s", at, got.Sigma(), sigma)
		}
	}
}
