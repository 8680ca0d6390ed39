package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"time"
)

// A case of several processes starts this program again, and speaks with each by
// lines of JSON over its standard streams:
//
//	boss   job        worker opens the subject
//	worker answer     boss waits until all are ready
//	boss   go         worker works, as its role says
//	worker report
//	boss   closes     worker closes the subject and ends

// A job is what a worker is to do.
type job struct {
	Arena   *arena
	Role    string
	Subject string
	Number  int // of the worker
	Pace    pace

	Lock  lockLoad
	Guard string // the guard's file
	Merge mergeLoad

	Directory string // of the embedded server
	Binaries  string // the directory above PostgreSQL's bin

	Routes []route // of a network
}

var roles map[string]func(context.Context, job, *wire) error

func init() { // roles would refer to itself
	roles = map[string]func(context.Context, job, *wire) error{
		"lock": lockRole, "wake": wakeRole, "merge": mergeRole, "embedded": embeddedRole,
		"network": networkRole, "leader": leaderRole, "waits": waitsRole, "etcd": etcdRole,
	}
}

// A wire is one end of the line between boss and worker.
type wire struct {
	in  *json.Decoder
	out *json.Encoder
}

func newWire(in io.Reader, out io.Writer) *wire {
	return &wire{json.NewDecoder(in), json.NewEncoder(out)}
}

func (w *wire) send(v any) error    { return w.out.Encode(v) }
func (w *wire) receive(v any) error { return w.in.Decode(v) }

// An answer says that a worker is ready, or what it has to report, or what went
// wrong.
type answer struct {
	Error  string          `json:",omitempty"`
	Report json.RawMessage `json:",omitempty"`
}

func (w *wire) answer() (json.RawMessage, error) {
	var a answer
	if err := w.receive(&a); err != nil {
		return nil, fmt.Errorf("a worker ended early: %w", err)
	}
	if a.Error != "" {
		return nil, errors.New(a.Error)
	}
	return a.Report, nil
}

func (w *wire) report(v any) error {
	text, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return w.send(answer{Report: text})
}

// ready says that the worker is, and waits until all are.
func (w *wire) ready() error {
	if err := w.send(answer{}); err != nil {
		return err
	}
	return w.receive(new(string))
}

// workerVariable marks a process that was started as a worker.
const workerVariable = "LOCKSTORE_BENCH_WORKER"

func isWorker() bool { return os.Getenv(workerVariable) != "" }

// serve is a worker's life.
func serve(ctx context.Context, in io.Reader, out io.Writer) error {
	boss := newWire(in, out)
	var j job
	if err := boss.receive(&j); err != nil {
		return err
	}
	role, known := roles[j.Role]
	if !known {
		return fmt.Errorf("no such role: %s", j.Role)
	}
	if err := role(ctx, j, boss); err != nil {
		return errors.Join(err, boss.send(answer{Error: err.Error()}))
	}
	return nil
}

// A crew is the workers of one run.
type crew []*worker

type worker struct {
	*wire
	orders io.Closer
	cmd    *exec.Cmd
}

// hire starts workers and returns when all are ready.
func hire(ctx context.Context, workers int, j job, configure ...func(*exec.Cmd)) (c crew, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, c.dismiss())
		}
	}()
	for n := range workers {
		w, err := startWorker(ctx, configure)
		if err != nil {
			return c, err
		}
		c = append(c, w)
		j.Number = n
		if err := w.send(j); err != nil {
			return c, err
		}
	}
	for _, w := range c {
		if _, err := w.answer(); err != nil {
			return c, err
		}
	}
	return c, nil
}

func startWorker(ctx context.Context, configure []func(*exec.Cmd)) (*worker, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, program)
	cmd.Env = append(os.Environ(), workerVariable+"=1")
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = dieWithParent()
	cmd.WaitDelay = 5 * time.Second
	for _, c := range configure {
		c(cmd)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	return &worker{newWire(out, in), in, cmd}, nil
}

// work lets all go at once and returns their reports.
func work[Report any](c crew) ([]Report, error) {
	for _, w := range c {
		if err := w.send("go"); err != nil {
			return nil, err
		}
	}
	reports := make([]Report, len(c))
	for i, w := range c {
		text, err := w.answer()
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(text, &reports[i]); err != nil {
			return nil, err
		}
	}
	return reports, nil
}

// dismiss ends the workers, by force if they do not heed the closed stream.
func (c crew) dismiss() error {
	var errs []error
	for _, w := range c {
		w.orders.Close()
	}
	for _, w := range c {
		force := time.AfterFunc(10*time.Second, func() { w.cmd.Process.Kill() })
		errs = append(errs, w.cmd.Wait())
		force.Stop()
	}
	return errors.Join(errs...)
}
