package simulate

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A part is a range of schedules that child processes play. A child runs on one core, and
// can hang or crash without ending the test.
type part struct {
	t     *testing.T
	seed  uint64
	count int

	played  int
	same    int    // schedules that went the same way twice
	failed  uint64 // the seed that failed
	failure string // the rule it broke and how; empty if none failed
	stacks  string // of a schedule that hung
}

// perChild limits the schedules of one process, because a test keeps about 100 kB of each of
// its bubbles until it ends.
const perChild = 5000

// run plays all of the part's schedules, or until one fails or ctx ends.
func (p *part) run(ctx context.Context) {
	for p.played < p.count && p.failure == "" && ctx.Err() == nil {
		p.runSome(ctx, p.seed+uint64(p.played), min(perChild, p.count-p.played))
	}
}

// runSome plays some of the part's schedules in a child process.
func (p *part) runSome(ctx context.Context, seed uint64, count int) {
	out, last, err := p.child(ctx, task{seed: seed, count: count})
	same := 0
	if fmt.Sscanf(last, "%d %d", &p.failed, &same); p.failed >= seed {
		p.played += int(p.failed-seed) + 1
	}
	if ctx.Err() != nil { // another part has failed
		err = nil
	}
	p.failure = failureOf(out, err)
	if _, stacks, hung := strings.Cut(string(out), "HANG: "); hung {
		p.stacks = stacks
	}
	if m := regexp.MustCompile(`SAME (\d+)`).FindSubmatch(out); m != nil {
		same, _ = strconv.Atoi(string(m[1]))
	}
	p.same += same
}

// failureOf returns why a child failed: the broken rule, its panic, or its output.
func failureOf(out []byte, err error) string {
	for line := range strings.Lines(string(out)) {
		for _, sign := range []string{"FAILED ", "panic: ", "fatal error: "} {
			if what, ok := strings.CutPrefix(line, sign); ok {
				if what = strings.TrimSpace(what); sign != "FAILED " {
					what = "PANIC: " + what
				}
				return what
			}
		}
	}
	if err != nil {
		return fmt.Sprintf("CRASH: %v: %s", err, out)
	}
	return ""
}

// child plays a task in a child process and returns its output and its progress.
func (p *part) child(ctx context.Context, k task) (out []byte, progress string, err error) {
	notes, err := os.CreateTemp(p.t.TempDir(), "progress")
	if err != nil {
		return nil, "", err
	}
	defer notes.Close()
	args := []string{"-test.run=^" + p.t.Name() + "$", "-test.timeout=0", "-hangs=" + hangs.String()}
	if *twice {
		args = append(args, "-twice")
	}
	cmd := exec.CommandContext(ctx, os.Args[0], args...)
	cmd.Env = append(os.Environ(), taskVariable+"="+k.String(), "GOMAXPROCS=1", "GOGC=1600")
	cmd.ExtraFiles = []*os.File{notes}
	out, err = cmd.CombinedOutput()
	read, _ := os.ReadFile(notes.Name())
	return out, string(read), err
}

// tell plays the failed schedule, or the part's only one, without some of its steps, and
// returns the story.
func (p *part) tell(skip map[int]bool) string {
	seed := p.seed
	if p.failure != "" {
		seed = p.failed
	}
	ctx, cancel := context.WithTimeout(p.t.Context(), *hangs+time.Second)
	defer cancel()
	out, _, _ := p.child(ctx, task{seed, 1, true, skip})
	return string(bytes.TrimSpace(out))
}

// Limits of the search for a shorter story.
const (
	shortenTries = 200
	shortenTime  = 30 * time.Second
)

var stepsOf = regexp.MustCompile(`(?m)^STEPS (\d+)$`)

// shorten removes steps of the failed schedule, in smaller and smaller portions, as long as
// the same rule breaks, and returns the shortest story.
func (p *part) shorten() string {
	rule, _, _ := strings.Cut(p.failure, ":")
	best := p.tell(nil)
	steps := 0
	if m := stepsOf.FindStringSubmatch(best); m != nil {
		steps, _ = strconv.Atoi(m[1])
	}
	end := time.Now().Add(shortenTime)
	skip, tries := map[int]bool{}, 0
	for portion := steps / 2; portion > 0; portion /= 2 {
		for from := 1; from <= steps; from += portion {
			less := map[int]bool{}
			for step := range skip {
				less[step] = true
			}
			for step := from; step < from+portion; step++ {
				less[step] = true
			}
			if len(less) == len(skip) {
				continue
			}
			if tries++; tries > shortenTries || time.Now().After(end) {
				return best
			}
			out := p.tell(less)
			if got, _, _ := strings.Cut(failureOf([]byte(out), nil), ":"); got == rule {
				skip, best = less, out
			}
		}
	}
	return best
}
