package simulate

import (
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
)

// toyVariable has TestToy play, which the tests below have a process do.
const toyVariable = "LOCKSTORE_TOY"

// TestToy plays a counter that is read, and then written: what is added in
// between is lost.
func TestToy(t *testing.T) {
	kind := os.Getenv(toyVariable)
	if kind == "" {
		t.Skip("is played by the other tests")
	}
	Run(t, func(s *Schedule) {
		var group sync.WaitGroup
		counter, added := 0, 0
		add := func() {
			added++
			group.Go(func() {
				before := counter
				if s.Yield("between"); kind == "right" {
					before = counter
				}
				counter = before + 1
			})
		}
		look := func() { s.Tell("the counter is %d", counter) }
		s.Steps(40, func() []Action {
			return []Action{{10, add}, {30, look}, {10, func() { s.Sleep(time.Millisecond) }}}
		}, func() {})
		s.Calm()
		group.Wait()
		switch {
		case kind == "hang" && added > 7:
			for { // and no time passes
				runtime.Gosched()
			}
		case kind == "panic" && added > 7:
			panic("toy")
		case counter != added && (kind == "lost" || kind == "right"):
			s.Problem("LOST UPDATE", "%d were added, and the counter is %d", added, counter)
		}
	})
}

func playToy(t *testing.T, kind string, args ...string) (out string, failed bool) {
	t.Helper()
	if raced {
		t.Skip("see Run")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], append([]string{"-test.run=^TestToy$", "-test.v", "-seed=1"}, args...)...)
	cmd.Env = append(os.Environ(), toyVariable+"="+kind)
	text, err := cmd.CombinedOutput()
	return string(text), err != nil
}

func TestRunFindsNothingWrongInWhatIsRight(t *testing.T) {
	out, failed := playToy(t, "right", "-schedules=200", "-twice")
	if failed || !strings.Contains(out, "200 of 200 went the same way twice") {
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

func TestRunNamesTheScheduleThatHangsOrPanics(t *testing.T) {
	for kind, want := range map[string]string{"hang": "HANG", "panic": "PANIC: toy"} {
		out, failed := playToy(t, kind, "-hangs=1s", "-shorten=false", "-schedules=50")
		if !failed || !regexp.MustCompile(`seed \d+: `+want).MatchString(out) {
			t.Error(out)
		}
	}
}
