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

// A case with several processes starts this program again for each worker. The coordinator and a
// worker exchange lines of JSON over the worker's standard streams:
//
//	coordinator  job       worker opens the subject
//	worker       answer    coordinator waits until all are ready
//	coordinator  go        worker works, as its role says
//	worker       report
//	coordinator  closes    worker closes the subject and ends

// A job tells a worker what to do.
type job struct {
	Arena   *arena
	Role    string
	Subject string
	Number  int // the worker's number
	Pace    pace

	Lock  lockLoad
	Guard string // the guard's file
	Merge mergeLoad

	Directory string // of the embedded server
	Binaries  string // the directory above PostgreSQL's bin

	Routes []route // of a network
}

var roles map[string]func(context.Context, job, *wire) error

func init() { // an initializer would refer to itself
	roles = map[string]func(context.Context, job, *wire) error{
		"lock": lockRole, "wake": wakeRole, "merge": mergeRole, "embedded": embeddedRole,
		"network": networkRole, "leader": leaderRole, "waits": waitsRole, "etcd": etcdRole,
	}
}

// A wire is one end of the connection between coordinator and worker.
type wire struct {
	in  *json.Decoder
	out *json.Encoder
}

func newWire(in io.Reader, out io.Writer) *wire {
	return &wire{json.NewDecoder(in), json.NewEncoder(out)}
}

func (w *wire) send(v any) error    { return w.out.Encode(v) }
func (w *wire) receive(v any) error { return w.in.Decode(v) }

// An answer says that a worker is ready, or has its report, or its error.
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

// ready tells the coordinator that the worker is ready, and waits until all are.
func (w *wire) ready() error {
	if err := w.send(answer{}); err != nil {
		return err
	}
	return w.receive(new(string))
}

// workerVariable marks a process that was started as a worker.
const workerVariable = "LOCKSTORE_BENCH_WORKER"

func isWorker() bool { return os.Getenv(workerVariable) != "" }

// serve is the main function of a worker.
func serve(ctx context.Context, in io.Reader, out io.Writer) error {
	coordinator := newWire(in, out)
	var j job
	if err := coordinator.receive(&j); err != nil {
		return err
	}
	role, known := roles[j.Role]
	if !known {
		return fmt.Errorf("no such role: %s", j.Role)
	}
	if err := role(ctx, j, coordinator); err != nil {
		return errors.Join(err, coordinator.send(answer{Error: err.Error()}))
	}
	return nil
}

// workers are all workers of one run.
type workers []*worker

type worker struct {
	*wire
	orders io.Closer
	cmd    *exec.Cmd
}

// startWorkers starts n workers and returns when all are ready.
func startWorkers(ctx context.Context, n int, j job, configure ...func(*exec.Cmd)) (all workers, err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, all.stop())
		}
	}()
	for i := range n {
		w, err := startWorker(ctx, configure)
		if err != nil {
			return all, err
		}
		all = append(all, w)
		j.Number = i
		if err := w.send(j); err != nil {
			return all, err
		}
	}
	for _, w := range all {
		if _, err := w.answer(); err != nil {
			return all, err
		}
	}
	return all, nil
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

// work starts all workers at once and returns their reports.
func work[Report any](all workers) ([]Report, error) {
	for _, w := range all {
		if err := w.send("go"); err != nil {
			return nil, err
		}
	}
	reports := make([]Report, len(all))
	for i, w := range all {
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

// stop ends the workers, by force if they do not react to the closed stream.
func (all workers) stop() error {
	var errs []error
	for _, w := range all {
		w.orders.Close()
	}
	for _, w := range all {
		force := time.AfterFunc(10*time.Second, func() { w.cmd.Process.Kill() })
		errs = append(errs, w.cmd.Wait())
		force.Stop()
	}
	return errors.Join(errs...)
}
