// Hotuser lets many concurrent writers each merge their own key into one user's metadata,
// with one strategy after the other. It then checks which of the acknowledged merges are in
// the document, and which locks were leaked.
//
//	go run ./examples/hotuser
//	go run ./examples/hotuser -writers 64 -strategies zep-v0.25,lockstore
//	go run ./examples/hotuser -processes 4 -strategies lockstore,locker+v0.25 -json
//
// It starts a PostgreSQL server, or uses the one that -dsn names. There it creates a database
// and drops it at the end. Progress goes to stderr; the table, or with -json an array of its
// rows, goes to stdout.
//
// To learn how to use the library, read lockstore.go first, then locker.go, and compare with
// zep.go.
//
// The exit status is 1 if a strategy that is built on lockstore lost a merge, leaked a lock or
// acknowledged nothing, or if the program could not run; it is 2 if the arguments are wrong.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	if isWorker() {
		if err := work(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "hotuser: worker:", err)
			os.Exit(1)
		}
		return
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program as usual
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// A plan is what the command line asks for.
type plan struct {
	writers    int
	processes  int
	strategies []strategy
	dsn        string
	svg        string
	json       bool
	cut        time.Duration // ends a run that hangs
}

// run runs the program with its arguments and returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "hotuser: %v\nTry: go run ./examples/hotuser -help\n", err)
		return 2
	}
	results, err := p.run(ctx, stderr)
	if err == nil {
		err = p.show(results, stdout)
	}
	if err == nil {
		err = broken(results)
	}
	if err != nil {
		fmt.Fprintf(stderr, "hotuser: %v\n", err)
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (*plan, error) {
	p := &plan{cut: 30 * time.Second}
	var chosen string
	flags := flag.NewFlagSet("hotuser", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // errors are reported once, by run
	flags.IntVar(&p.writers, "writers", 256, "how many writers start at once")
	flags.IntVar(&p.processes, "processes", 1, "split the writers over `P` processes")
	flags.StringVar(&chosen, "strategies", "", "comma-separated `names`; all if empty")
	flags.StringVar(&p.dsn, "dsn", "", "connection `string` of a server to use; starts one if empty")
	flags.StringVar(&p.svg, "svg", "", "also draw the table into this `file`")
	flags.BoolVar(&p.json, "json", false, "print a JSON array instead of a table")
	flags.Usage = func() {
		fmt.Fprintln(stderr, "Usage: hotuser [flags]")
		flags.SetOutput(stderr)
		flags.PrintDefaults()
		fmt.Fprintln(stderr, "Strategies:")
		for _, s := range strategies {
			fmt.Fprintf(stderr, "  %-14s %s\n", s.name, s.about)
		}
	}
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	switch {
	case flags.NArg() > 0:
		return nil, fmt.Errorf("unexpected argument %q: everything is a flag", flags.Arg(0))
	case p.writers < 1 || p.writers > 10_000:
		return nil, fmt.Errorf("-writers %d: choose 1 to 10000", p.writers)
	case p.processes < 1 || p.processes > p.writers:
		return nil, fmt.Errorf("-processes %d: choose 1 to %d, the number of writers", p.processes, p.writers)
	}
	var err error
	p.strategies, err = choose(chosen)
	return p, err
}

// choose returns the strategies that a comma-separated list names, in that order.
func choose(list string) ([]strategy, error) {
	if list == "" {
		return strategies, nil
	}
	var chosen []strategy
	for name := range strings.SplitSeq(list, ",") {
		s, err := strategyNamed(strings.TrimSpace(name))
		if err != nil {
			return nil, err
		}
		if !slices.ContainsFunc(chosen, func(c strategy) bool { return c.name == s.name }) {
			chosen = append(chosen, s)
		}
	}
	return chosen, nil
}

// show writes the results to stdout, and to the -svg file if there is one.
func (p *plan) show(results []result, stdout io.Writer) error {
	write := printTable
	if p.json {
		write = printJSON
	}
	err := write(stdout, results)
	if p.svg != "" {
		if svgErr := os.WriteFile(p.svg, drawing(results), 0o644); svgErr != nil {
			err = errors.Join(err, fmt.Errorf("cannot write the picture, choose another -svg file: %w", svgErr))
		}
	}
	return err
}

// broken returns an error if a strategy broke its promise to lose and leak nothing, or
// acknowledged nothing, which proves nothing.
func broken(results []result) error {
	var errs []error
	for _, r := range results {
		s, err := strategyNamed(r.Strategy)
		switch {
		case err != nil || !s.promises:
		case r.Lost > 0 || r.LeakedLocks > 0:
			errs = append(errs, fmt.Errorf("%s lost %d merges and leaked %d locks: this is a bug in lockstore, please report it with this output",
				r.Strategy, r.Lost, r.LeakedLocks))
		case r.Acknowledged == 0:
			errs = append(errs, fmt.Errorf("%s acknowledged nothing, see above for the reason", r.Strategy))
		}
	}
	return errors.Join(errs...)
}
