// Command peer is River over PostgreSQL: the work of benches/peers, for one client in one process.
//
// Workers do not run while creates are measured.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/riverqueue/river"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"
	"github.com/riverqueue/river/rivermigrate"
)

// Work is what run.py asks for. A count of zero leaves that part out.
type Work struct {
	Endpoint      string  `json:"endpoint"`
	PayloadBytes  int     `json:"payload_bytes"`
	Batch         int     `json:"batch"`
	CreateSingle  int     `json:"create_single"`
	CreateBatches int     `json:"create_batches"`
	Herd          int     `json:"herd"`
	OffsetsMs     []int64 `json:"offsets_ms"`
	LeadMs        int64   `json:"lead_ms"`
	Concurrency   int     `json:"concurrency"`
	// PollMs is the poll interval and the cooldown between fetches; zero keeps River's defaults.
	PollMs int64 `json:"poll_ms"`
}

// Results are the raw results, as every peer prints them.
type Results struct {
	Version         string    `json:"version"`
	CreateSinglePer float64   `json:"create_single_per_s,omitempty"`
	CreateBatchPer  float64   `json:"create_batch_per_s,omitempty"`
	HerdMs          []float64 `json:"herd_ms"`
	LatenessMs      []float64 `json:"lateness_ms"`
}

// TimerArgs is a job that only carries a payload.
type TimerArgs struct {
	Payload string `json:"payload"`
}

// Kind names the job.
func (TimerArgs) Kind() string { return "timer" }

// fires collects how late each job was.
type fires struct {
	mutex    sync.Mutex
	wanted   int
	lateMs   []float64
	allFired chan struct{}
}

func (f *fires) expect(wanted int) {
	f.mutex.Lock()
	defer f.mutex.Unlock()
	f.wanted, f.lateMs, f.allFired = wanted, make([]float64, 0, wanted), make(chan struct{})
}

// timerWorker is the handler: it records the time.
type timerWorker struct {
	river.WorkerDefaults[TimerArgs]
	fires *fires
}

// Work implements river.Worker.
func (w *timerWorker) Work(_ context.Context, job *river.Job[TimerArgs]) error {
	late := time.Since(job.ScheduledAt)
	w.fires.mutex.Lock()
	defer w.fires.mutex.Unlock()
	w.fires.lateMs = append(w.fires.lateMs, float64(late)/1e6)
	if len(w.fires.lateMs) == w.fires.wanted {
		close(w.fires.allFired)
	}
	return nil
}

type peer struct {
	work   Work
	client *river.Client[pgx.Tx]
	fires  *fires
	args   TimerArgs
}

func newPeer(ctx context.Context, work Work) (*peer, error) {
	pool, err := pgxpool.New(ctx, work.Endpoint)
	if err != nil {
		return nil, err
	}
	driver := riverpgxv5.New(pool)
	migrator, err := rivermigrate.New(driver, nil)
	if err != nil {
		return nil, err
	}
	if _, err := migrator.Migrate(ctx, rivermigrate.DirectionUp, nil); err != nil {
		return nil, err
	}
	p := &peer{work: work, fires: &fires{}, args: TimerArgs{Payload: strings.Repeat("x", work.PayloadBytes)}}
	workers := river.NewWorkers()
	river.AddWorker(workers, &timerWorker{fires: p.fires})
	poll := time.Duration(work.PollMs) * time.Millisecond
	p.client, err = river.NewClient(driver, &river.Config{
		FetchCooldown:     poll,
		FetchPollInterval: poll,
		Logger:            slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
		Queues:            map[string]river.QueueConfig{river.QueueDefault: {MaxWorkers: work.Concurrency}},
		Workers:           workers,
	})
	return p, err
}

// params are jobs that are due at these times.
func (p *peer) params(due ...time.Time) []river.InsertManyParams {
	params := make([]river.InsertManyParams, len(due))
	for i := range due {
		params[i] = river.InsertManyParams{Args: p.args, InsertOpts: &river.InsertOpts{ScheduledAt: due[i]}}
	}
	return params
}

func (p *peer) createSingle(ctx context.Context) (float64, error) {
	if p.work.CreateSingle == 0 {
		return 0, nil
	}
	begin := time.Now()
	for range p.work.CreateSingle {
		opts := &river.InsertOpts{ScheduledAt: time.Now().Add(24 * time.Hour)}
		if _, err := p.client.Insert(ctx, p.args, opts); err != nil {
			return 0, err
		}
	}
	return float64(p.work.CreateSingle) / time.Since(begin).Seconds(), nil
}

func (p *peer) createBatches(ctx context.Context) (float64, error) {
	if p.work.CreateBatches == 0 {
		return 0, nil
	}
	begin := time.Now()
	for range p.work.CreateBatches {
		due := make([]time.Time, p.work.Batch)
		for i := range due {
			due[i] = time.Now().Add(24 * time.Hour)
		}
		if _, err := p.client.InsertManyFast(ctx, p.params(due...)); err != nil {
			return 0, err
		}
	}
	return float64(p.work.CreateBatches*p.work.Batch) / time.Since(begin).Seconds(), nil
}

// fireAll creates jobs, waits until the last has run, and returns how late each was.
func (p *peer) fireAll(ctx context.Context, offsetsMs []int64) ([]float64, error) {
	if len(offsetsMs) == 0 {
		return nil, nil
	}
	p.fires.expect(len(offsetsMs))
	start := time.Now().Truncate(time.Millisecond).Add(time.Duration(p.work.LeadMs) * time.Millisecond)
	for len(offsetsMs) > 0 {
		some := offsetsMs[:min(p.work.Batch, len(offsetsMs))]
		due := make([]time.Time, len(some))
		for i, offsetMs := range some {
			due[i] = start.Add(time.Duration(offsetMs) * time.Millisecond)
		}
		if _, err := p.client.InsertManyFast(ctx, p.params(due...)); err != nil {
			return nil, err
		}
		offsetsMs = offsetsMs[len(some):]
	}
	if !time.Now().Before(start) {
		return nil, fmt.Errorf("creating took longer than the lead: raise it in run.py")
	}
	select {
	case <-p.fires.allFired:
		return p.fires.lateMs, nil
	case <-ctx.Done():
		p.fires.mutex.Lock()
		defer p.fires.mutex.Unlock()
		return nil, fmt.Errorf("%d of %d jobs ran", len(p.fires.lateMs), p.fires.wanted)
	}
}

func version() string {
	built, _ := debug.ReadBuildInfo()
	for _, module := range built.Deps {
		if module.Path == "github.com/riverqueue/river" {
			return "River " + module.Version + ", " + built.GoVersion
		}
	}
	return "River"
}

func run() error {
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		return err
	}
	var work Work
	if err := json.Unmarshal(text, &work); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	p, err := newPeer(ctx, work)
	if err != nil {
		return err
	}
	results := Results{Version: version()}
	if results.CreateSinglePer, err = p.createSingle(ctx); err != nil {
		return err
	}
	if results.CreateBatchPer, err = p.createBatches(ctx); err != nil {
		return err
	}
	if err := p.client.Start(ctx); err != nil {
		return err
	}
	if results.HerdMs, err = p.fireAll(ctx, make([]int64, work.Herd)); err != nil {
		return err
	}
	if results.LatenessMs, err = p.fireAll(ctx, work.OffsetsMs); err != nil {
		return err
	}
	if err := p.client.StopAndCancel(ctx); err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(results)
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "river peer:", err)
		os.Exit(1)
	}
}
