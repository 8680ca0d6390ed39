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

// A crew is the workers of one run.
type crew []*member

// A member is one worker, as its chief sees it.
type member struct {
	job     job
	orders  *json.Encoder
	answers *json.Decoder
	dismiss func() error // ends the worker and waits until it has ended
}

// hire opens a run's strategy in every process that takes part.
func hire(ctx context.Context, j job, processes int) (c crew, err error) {
	defer func() {
		if err != nil {
			c.dismiss()
		}
	}()
	writers, engage := j.Count, engageProcess
	if processes == 1 {
		engage = engageGoroutine
	}
	for i := range processes {
		j.First = writers * i / processes
		j.Count = writers*(i+1)/processes - j.First
		m, err := engage(ctx)
		if err != nil {
			return c, fmt.Errorf("cannot start worker %d of %d: %w", i+1, processes, err)
		}
		m.job = j
		c = append(c, m)
		if err := m.orders.Encode(j); err != nil {
			return c, fmt.Errorf("worker %d of %d ended early: %w", i+1, processes, err)
		}
	}
	for i, m := range c {
		var r ready
		if err := m.answers.Decode(&r); err != nil {
			return c, fmt.Errorf("worker %d of %d ended early: %w", i+1, processes, err)
		}
		if r.Error != "" {
			return c, fmt.Errorf("worker %d of %d cannot open %s (the server may need more connections; try fewer -processes): %s",
				i+1, processes, j.Strategy, r.Error)
		}
	}
	return c, nil
}

// engageGoroutine makes a worker of a part of this process.
func engageGoroutine(ctx context.Context) (*member, error) {
	ordersIn, ordersOut := io.Pipe()
	answersIn, answersOut := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := work(ctx, ordersIn, answersOut)
		ordersIn.Close()
		answersOut.Close()
		ended <- err
	}()
	return newMember(ordersOut, answersIn, func() error {
		answersIn.Close()
		return <-ended
	}), nil
}

// engageProcess makes a worker of a new process of this program.
func engageProcess(ctx context.Context) (*member, error) {
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
	return newMember(ordersOut, answersIn, cmd.Wait), nil
}

// newMember speaks with a worker over two streams; wait is called when the worker
// will get no more orders.
func newMember(orders io.WriteCloser, answers io.Reader, wait func() error) *member {
	return &member{
		orders:  json.NewEncoder(orders),
		answers: json.NewDecoder(answers),
		dismiss: func() error {
			orders.Close()
			return wait()
		},
	}
}

// start lets all writers go, and reports each outcome as it comes, one at a time,
// until all have come.
func (c crew) start(report func(outcome)) error {
	outcomes, ended := make(chan outcome), make(chan error)
	for _, m := range c {
		go func() { ended <- m.start(outcomes) }()
	}
	var errs []error
	for len(errs) < len(c) {
		select {
		case o := <-outcomes:
			report(o)
		case err := <-ended:
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (m *member) start(outcomes chan<- outcome) error {
	if err := m.orders.Encode(start{}); err != nil {
		return fmt.Errorf("a worker ended before the start: %w", err)
	}
	for range m.job.Count {
		var o outcome
		if err := m.answers.Decode(&o); err != nil {
			return fmt.Errorf("a worker ended before its writers: %w", err)
		}
		outcomes <- o
	}
	return nil
}

// dismiss ends every worker, and with it the strategy's connections.
func (c crew) dismiss() error {
	var errs []error
	for _, m := range c {
		errs = append(errs, m.dismiss())
	}
	return errors.Join(errs...)
}
