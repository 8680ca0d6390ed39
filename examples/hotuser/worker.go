package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// A worker is a process, or a goroutine of this one, that runs some of the writers. It and
// the coordinator exchange lines of JSON:
//
//	coordinator  job                    worker opens the strategy
//	worker       ready                  coordinator waits for all workers
//	coordinator  start                  the writers start, all at once
//	worker       outcome, per writer    coordinator verifies, while the worker is idle
//	coordinator  closes the stream      worker closes the strategy and ends

// A job is a worker's share of a run.
type job struct {
	Database database
	Strategy string
	User     string
	Run      string        // unique: the values of each run differ
	First    int           // the number of the first writer
	Count    int           // the number of writers
	Cut      time.Duration // ends the writers that have not ended
}

type ready struct{ Error string }

type start struct{}

// An outcome is the result of one writer.
type outcome struct {
	Writer int
	Took   time.Duration // from the common start
	Error  string        // empty: the merge was acknowledged
	Cut    bool          // it failed because the run was cut
}

// workerVariable marks a process that was started as a worker.
const workerVariable = "HOTUSER_WORKER"

func isWorker() bool { return os.Getenv(workerVariable) != "" }

// work is the main function of a worker.
func work(ctx context.Context, orders io.Reader, answers io.Writer) (err error) {
	in, out := json.NewDecoder(orders), json.NewEncoder(answers)
	var j job
	if err := in.Decode(&j); err != nil {
		return fmt.Errorf("no job: %w", err)
	}
	m, err := j.open(ctx)
	if err != nil {
		return out.Encode(ready{Error: err.Error()})
	}
	defer func() { err = errors.Join(err, m.close()) }()
	if err := out.Encode(ready{}); err != nil {
		return err
	}
	if err := in.Decode(&start{}); err != nil {
		return fmt.Errorf("dismissed before the start: %w", err)
	}
	ctx, stop := context.WithCancel(ctx)
	go func() {
		io.Copy(io.Discard, orders) // until the coordinator closes the stream, or dies
		stop()
	}()
	err = j.run(ctx, m, out)
	<-ctx.Done()
	return err
}

func (j *job) open(ctx context.Context) (merger, error) {
	s, err := strategyNamed(j.Strategy)
	if err != nil {
		return nil, err
	}
	return s.open(ctx, j.Database)
}

// run starts the writers, all at once, and writes each outcome when the writer ends.
func (j *job) run(ctx context.Context, m merger, out *json.Encoder) error {
	ctx, cancel := context.WithTimeoutCause(ctx, j.Cut, fmt.Errorf("cut at %s", j.Cut))
	defer cancel()
	started, outcomes := make(chan struct{}), make(chan outcome, j.Count)
	var begin time.Time // set before started is closed
	for n := j.First; n < j.First+j.Count; n++ {
		go func() {
			<-started
			err := m.merge(ctx, j.User, patch(n, j.Run))
			o := outcome{Writer: n, Took: time.Since(begin)}
			if err != nil {
				o.Error, o.Cut = err.Error(), ctx.Err() != nil
			}
			outcomes <- o
		}()
	}
	begin = time.Now()
	close(started)
	for range j.Count {
		if err := out.Encode(<-outcomes); err != nil {
			return err
		}
	}
	return nil
}

// patch returns what writer n merges: a key that no other writer has.
func patch(n int, run string) json.RawMessage {
	return json.RawMessage(fmt.Sprintf(`{%q: %q}`, key(n), value(n, run)))
}

func key(n int) string { return fmt.Sprintf("writer-%04d", n) }

func value(n int, run string) string { return fmt.Sprintf("%s-%d", run, n) }
