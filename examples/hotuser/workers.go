package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
)

// workers are all workers of one run.
type workers []*worker

// A worker is what the coordinator has of a worker.
type worker struct {
	job     job
	orders  *json.Encoder
	answers *json.Decoder
	stop    func() error // ends the worker and waits for it
}

// startWorkers starts the workers and opens the strategy in each of them.
func startWorkers(ctx context.Context, j job, processes int) (all workers, err error) {
	defer func() {
		if err != nil {
			all.stop()
		}
	}()
	writers, start := j.Count, startProcess
	if processes == 1 {
		start = startGoroutine
	}
	for i := range processes {
		j.First = writers * i / processes
		j.Count = writers*(i+1)/processes - j.First
		w, err := start(ctx)
		if err != nil {
			return all, fmt.Errorf("cannot start worker %d of %d: %w", i+1, processes, err)
		}
		w.job = j
		all = append(all, w)
		if err := w.orders.Encode(j); err != nil {
			return all, fmt.Errorf("worker %d of %d ended early: %w", i+1, processes, err)
		}
	}
	for i, w := range all {
		var r ready
		if err := w.answers.Decode(&r); err != nil {
			return all, fmt.Errorf("worker %d of %d ended early: %w", i+1, processes, err)
		}
		if r.Error != "" {
			return all, fmt.Errorf("worker %d of %d cannot open %s (the server may need more connections; try fewer -processes): %s",
				i+1, processes, j.Strategy, r.Error)
		}
	}
	return all, nil
}

// startGoroutine starts a worker in this process.
func startGoroutine(ctx context.Context) (*worker, error) {
	ordersIn, ordersOut := io.Pipe()
	answersIn, answersOut := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := work(ctx, ordersIn, answersOut)
		ordersIn.Close()
		answersOut.Close()
		ended <- err
	}()
	return newWorker(ordersOut, answersIn, func() error {
		answersIn.Close()
		return <-ended
	}), nil
}

// startProcess starts a worker as a new process of this program.
func startProcess(ctx context.Context) (*worker, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = append(os.Environ(), workerVariable+"=1")
	cmd.Stderr = os.Stderr
	ordersOut, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	answersIn, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return newWorker(ordersOut, answersIn, cmd.Wait), nil
}

// newWorker talks to a worker over two streams. stop closes orders and then calls wait.
func newWorker(orders io.WriteCloser, answers io.Reader, wait func() error) *worker {
	return &worker{
		orders:  json.NewEncoder(orders),
		answers: json.NewDecoder(answers),
		stop: func() error {
			orders.Close()
			return wait()
		},
	}
}

// run starts all writers at once and reports each outcome as it arrives. It returns when all
// have arrived. It does not call report concurrently.
func (all workers) run(report func(outcome)) error {
	outcomes, ended := make(chan outcome), make(chan error)
	for _, w := range all {
		go func() { ended <- w.run(outcomes) }()
	}
	var errs []error
	for len(errs) < len(all) {
		select {
		case o := <-outcomes:
			report(o)
		case err := <-ended:
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (w *worker) run(outcomes chan<- outcome) error {
	if err := w.orders.Encode(start{}); err != nil {
		return fmt.Errorf("a worker ended before the start: %w", err)
	}
	for range w.job.Count {
		var o outcome
		if err := w.answers.Decode(&o); err != nil {
			return fmt.Errorf("a worker ended before its writers: %w", err)
		}
		outcomes <- o
	}
	return nil
}

// stop ends every worker, and with it the strategy's connections.
func (all workers) stop() error {
	var errs []error
	for _, w := range all {
		errs = append(errs, w.stop())
	}
	return errors.Join(errs...)
}
