// Bench compares lockstore with its alternatives: the same cases, in one run. After each run
// of a subject it checks whether the results were right.
//
//	go -C internal/bench run .
//	go -C internal/bench run . -quick
//	go -C internal/bench run . -cases 'lock/hot|merge/one' -rounds 5
//	go -C internal/bench run . -rtt 0,0.2ms,1ms,5ms
//	go -C internal/bench run . -json -svg ../../docs >bench.json
//	go -C internal/bench run . -read part1.json,part2.json -svg pictures -readme
//
// It starts its own PostgreSQL, etcd and Redis. Every case runs its subjects in turn, in several
// rounds. The tables, or with -json one array of their rows, go to stdout, and progress goes
// to stderr.
//
// README.md describes the cases and the subjects.
//
// The exit status is 1 if lockstore lost, overlapped or failed, or if the program could not
// run; it is 2 if the arguments are wrong.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program as usual
	if isWorker() {
		if err := serve(ctx, os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, "bench: worker:", err)
			os.Exit(1)
		}
		return
	}
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// A plan is what the command line asks for.
type plan struct {
	cases  []testCase
	rtts   []time.Duration
	rounds int
	pace   pace
	json   bool
	list   bool
	svg    string // directory
	read   []string
	readme bool
}

// run runs the program with its arguments and returns the exit status.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	p, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return 0
	case err != nil:
		fmt.Fprintf(stderr, "bench: %v\nTry: go -C internal/bench run . -help\n", err)
		return 2
	}
	if p.list {
		for _, c := range p.cases {
			fmt.Fprintf(stdout, "%-34s %s\n", c.name, c.asks)
		}
		return 0
	}
	if err := p.run(ctx, stdout, stderr); err != nil {
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return 1
	}
	return 0
}

func parse(args []string, stderr io.Writer) (*plan, error) {
	p := &plan{}
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // errors are reported once, by run
	flags.BoolVar(&p.json, "json", false, "print a JSON array instead of tables")
	flags.BoolVar(&p.readme, "readme", false, "print the table of lockstore's README instead of tables")
	read := flags.String("read", "", "run nothing, but show what earlier runs have printed with -json, as if it were of one run: `files`, with commas between")
	flags.BoolVar(&p.list, "list", false, "print the cases, and run nothing")
	flags.StringVar(&p.svg, "svg", "", "also draw the pictures into this `directory`")
	flags.BoolVar(&p.pace.Quick, "quick", false, "one short round of each: a look, not a measurement")
	distances := flags.String("rtt", "0", "round trips to the servers, as in `0,0.2ms,1ms,5ms`; 0 is their sockets")
	flags.IntVar(&p.rounds, "rounds", 0, "how many rounds; 0 means 3, or 1 with -quick")
	chosen := flags.String("cases", "", "only cases whose names match this `regexp`")
	without := flags.String("without", "^$", "no subjects whose names match this `regexp`")
	flags.Usage = func() {
		fmt.Fprintln(stderr, "Usage: bench [flags]")
		flags.SetOutput(stderr)
		flags.PrintDefaults()
	}
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 0 {
		return nil, fmt.Errorf("unexpected argument %q: everything is a flag", flags.Arg(0))
	}
	if *read != "" {
		p.read = strings.Split(*read, ",")
	}
	pattern, err := regexp.Compile(*chosen)
	if err != nil {
		return nil, err
	}
	unwanted, err := regexp.Compile(*without)
	if err != nil {
		return nil, err
	}
	if p.rtts, err = durations(*distances); err != nil {
		return nil, fmt.Errorf("-rtt %s: %w", *distances, err)
	}
	for _, c := range suite(p.rtts...) {
		if pattern.MatchString(c.name) {
			c.subjects = slices.DeleteFunc(slices.Clone(c.subjects), func(s subject) bool { return unwanted.MatchString(s.name) })
			p.cases = append(p.cases, c)
		}
	}
	if len(p.cases) == 0 {
		return nil, fmt.Errorf("no case matches %q: see -list", *chosen)
	}
	if p.rounds < 0 {
		return nil, fmt.Errorf("-rounds %d: choose 1 or more", p.rounds)
	}
	p.pace.Warm, p.pace.Count, p.pace.Limit = time.Second, 500*time.Millisecond, 25*time.Second
	if p.pace.Quick {
		p.pace.Warm, p.pace.Count, p.pace.Limit = 50*time.Millisecond, 150*time.Millisecond, 10*time.Second
	}
	if p.rounds == 0 {
		p.rounds = 3
		if p.pace.Quick {
			p.rounds = 1
		}
	}
	return p, nil
}

// durations parses a list of durations.
func durations(list string) (all []time.Duration, err error) {
	for text := range strings.SplitSeq(list, ",") {
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil, err
		}
		if d < 0 || slices.Contains(all, d) {
			return nil, fmt.Errorf("%v is negative or there twice", d)
		}
		all = append(all, d)
	}
	return all, nil
}

// suite returns all cases over these distances, in the order in which they run: each case over
// all distances, one after the other.
func suite(rtts ...time.Duration) []testCase {
	var all []testCase
	for _, family := range [][]testCase{lockCases(), leadCases(), whoCases(), {semaphoreCase()}, mergeCases(), onceCases(), writeCases(), watchCases(), observedCases(), backoffCases(), mergePatchCases(), pgtestCases()} {
		for _, c := range family {
			for _, rtt := range rtts {
				switch {
				case rtt == 0:
					all = append(all, c)
				case c.far:
					all = append(all, c.over(rtt))
				}
			}
		}
	}
	return all
}

// run runs the cases, or reads the results of earlier runs, and shows them.
func (p *plan) run(ctx context.Context, stdout, stderr io.Writer) error {
	rows, err := readRows(p.read)
	if len(p.read) == 0 {
		rows, err = p.measure(ctx, stdout, stderr)
	}
	if err != nil {
		if p.json && len(rows) > 0 { // what was measured before
			err = errors.Join(err, printRows(stdout, rows))
		}
		return err
	}
	if p.svg != "" {
		missing, err := drawPictures(p.svg, rows)
		if err != nil {
			return err
		}
		for _, file := range missing {
			fmt.Fprintf(stderr, "bench: %s was not drawn: -cases leaves out what it shows\n", file)
		}
	}
	switch {
	case p.json:
		err = printRows(stdout, rows)
	case p.readme:
		err = printReadme(stdout, rows)
	default:
		err = printTargets(stdout, rows)
	}
	return errors.Join(err, broken(rows))
}

// printRows prints one array, as -read takes it.
func printRows(w io.Writer, rows []row) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(rows)
}

// measure runs the cases, with a table for each.
func (p *plan) measure(ctx context.Context, stdout, stderr io.Writer) (all []row, err error) {
	in, err := openArena(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, in.close()) }()
	m := thisMachine(in)
	trips := map[time.Duration]string{}
	places := map[time.Duration]*arena{}
	for _, rtt := range p.rtts {
		if places[rtt], err = in.away(ctx, rtt); err != nil {
			return nil, err
		}
		measured, err := places[rtt].roundTrip(ctx, pace{Warm: 50 * time.Millisecond, Count: 200 * time.Millisecond}, ping)
		if err != nil {
			return nil, err
		}
		trips[rtt] = fmt.Sprintf("%v: %s", rtt, brief(float64(measured.Nanoseconds())/1000))
		m.rtts = append(m.rtts, trips[rtt])
	}
	tables := !p.json && !p.readme
	if tables {
		fmt.Fprintln(stdout, m)
	}
	progress := newProgress(stderr, len(p.cases))
	all = []row{} // also in JSON
	for i, c := range p.cases {
		pace := p.pace
		if pace.Quick { // opening a connection and planning its statements take a dozen round trips
			pace.Warm, pace.Count = pace.Warm+20*c.rtt, pace.Count+20*c.rtt
		}
		r, err := c.run(ctx, places[c.rtt], pace, p.rounds, func(what string) { progress.at(i+1, c.name, what) })
		progress.clear()
		if err != nil {
			return all, err
		}
		rows := r.summarize()
		for i := range rows {
			rows[i].Machine, rows[i].RoundTrip = m.what, trips[c.rtt]
		}
		all = append(all, rows...)
		if tables {
			if err := printTable(stdout, c, rows); err != nil {
				return all, err
			}
		}
	}
	progress.end()
	return all, nil
}

// broken returns an error if lockstore did not do what it promises.
func broken(rows []row) error {
	var errs []error
	for _, r := range rows {
		switch {
		case !isOurs(r.Subject):
		case r.Failed != "":
			errs = append(errs, fmt.Errorf("%s: %s failed: %s", r.Case, r.Subject, r.Failed))
		case r.Violations > 0 || r.Errors > 0:
			errs = append(errs, fmt.Errorf("%s: %s: %d lost or overlapping, %d errors: this is a bug in lockstore, please report it with this output",
				r.Case, r.Subject, r.Violations, r.Errors))
		}
	}
	return errors.Join(errs...)
}
