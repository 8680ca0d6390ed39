package simulate

import (
	"flag"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
)

var rewrite = flag.Bool("rewrite", false, "rewrite transcripts and other golden files to what comes of them now")

// Transcript plays a script in a bubble, with nothing left to chance but what N
// draws, which is always the same. Its file is blocks with empty lines between
// them: comments, a command with its arguments, ----, and what came of it. do
// carries out a command; what is told meanwhile is its outcome. Lines one after the
// other that begin with concurrent, if it is not empty, have no order among them.
func Transcript(t *testing.T, file, concurrent string, do func(s *Schedule, command string, args []string)) {
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var is []string
	synctest.Test(t, func(t *testing.T) {
		s := newSchedule(1, nil, true)
		s.YieldPercent = 0
		for block := range strings.SplitSeq(strings.TrimSpace(string(text)), "\n\n") {
			said, _, _ := strings.Cut(block, "----")
			said = strings.TrimSpace(said)
			fields := strings.Fields(said[strings.LastIndexByte(said, '\n')+1:])
			do(s, fields[0], fields[1:])
			is = append(is, said+"\n----\n"+strings.Join(ordered(s.told, concurrent), "\n"))
			s.Forget()
		}
		if broken := s.Broken(); broken != "" {
			panic(broken) // what hangs in the bubble could not be ended
		}
	})
	Golden(t, file, strings.Join(is, "\n\n")+"\n")
}

// Golden compares a file with what should be in it now, and rewrites it if asked to.
func Golden(t *testing.T, file, now string) {
	text, err := os.ReadFile(file)
	switch {
	case err == nil && now == string(text):
	case *rewrite:
		if err := os.WriteFile(file, []byte(now), 0o600); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s is not what comes of it now (-rewrite accepts that):\n%s", file, now)
	}
}

// ordered sorts what has no order.
func ordered(lines []string, concurrent string) []string {
	for from := 0; from < len(lines); from++ {
		to := from
		for to < len(lines) && concurrent != "" && strings.HasPrefix(lines[to], concurrent) {
			to++
		}
		slices.Sort(lines[from:to])
		from = max(from, to-1)
	}
	return lines
}

// Forget leaves what has been told so far out of the outcome of a command.
func (s *Schedule) Forget() { s.told = s.told[:0] }
