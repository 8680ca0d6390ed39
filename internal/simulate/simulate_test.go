package simulate

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// toyVariable selects what TestToy does, in the processes that the tests below start.
const toyVariable = "LOCKSTORE_TOY"

// TestToy simulates a counter that is read and then written: an update in between is lost,
// unless the counter is read again.
func TestToy(t *testing.T) {
	kind := os.Getenv(toyVariable)
	if kind == "" {
		kind = "right"
	}
	Run(t, func(s *Schedule) {
		var group sync.WaitGroup
		var counter atomic.Int64
		added := int64(0)
		add := func() {
			added++
			group.Go(func() {
				before := counter.Load()
				if s.Yield("between"); kind == "right" {
					before = counter.Load()
				}
				counter.Store(before + 1)
			})
		}
		look := func() { s.Tell("the counter is %d", counter.Load()) }
		s.Steps(40, func() []Action {
			return []Action{{10, add}, {30, look}, {10, func() { s.Sleep(time.Millisecond) }}}
		}, func() {})
		s.Calm()
		group.Wait()
		switch {
		case kind == "hang" && added > 7:
			for counter.Load() >= 0 { // busy, and no time passes
			}
		case kind == "panic" && added > 7:
			panic("toy")
		case kind == "race" && added > 7:
			for range 2 {
				group.Go(func() { added++ })
			}
			group.Wait()
		case counter.Load() != added && (kind == "lost" || kind == "right"):
			s.Problem("LOST UPDATE", "%d were added, and the counter is %d", added, counter.Load())
		}
	})
}

func playToy(t *testing.T, kind string, args ...string) (out string, failed bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], append([]string{"-test.run=^TestToy$", "-test.v", "-seed=1"}, args...)...)
	cmd.Env = append(os.Environ(), toyVariable+"="+kind)
	text, err := cmd.CombinedOutput()
	return string(text), err != nil
}

func TestRunFindsNothingWrongInWhatIsRight(t *testing.T) {
	played := 201 // which few numbers of cores divide
	if raced {
		played = 21
	}
	out, failed := playToy(t, "right", "-schedules=201", "-twice")
	var same, of int
	if m := regexp.MustCompile(`\d+ of \d+ went the same way twice`).FindString(out); m != "" {
		fmt.Sscanf(m, "%d of %d", &same, &of)
	}
	if failed || of != played || same < played*9/10 { // on a busy machine, one in some hundred differs
		t.Error(out)
	}
}

func TestRunFindsALostUpdateAndShortensItsStory(t *testing.T) {
	out, failed := playToy(t, "lost")
	seed := regexp.MustCompile(`seed (\d+): LOST UPDATE: step`).FindStringSubmatch(out)
	_, short, _ := strings.Cut(out, "the shortest story found:")
	if !failed || seed == nil || strings.Count(short, "resume between") > 2 || strings.Contains(short, "the counter is 0") {
		t.Fatal(out)
	}
	whole, _ := playToy(t, "lost", "-story", "-seed="+seed[1])
	if !strings.Contains(whole, "LOST UPDATE") || strings.Count(whole, "\n") < strings.Count(short, "\n") {
		t.Error(whole)
	}
}

func TestRunNamesTheScheduleThatHangsPanicsOrRaces(t *testing.T) {
	kinds := map[string]string{"hang": "HANG", "panic": "PANIC: toy"}
	if raced {
		kinds["race"] = `CRASH: exit status \d+: =+\s+WARNING: DATA RACE`
	}
	for kind, want := range kinds {
		out, failed := playToy(t, kind, "-hangs=1s", "-shorten=false", "-schedules=500")
		if !failed || !regexp.MustCompile(`seed \d+: `+want).MatchString(out) {
			t.Error(out)
		}
	}
}
