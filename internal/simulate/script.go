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

var rewrite = flag.Bool("rewrite", false, "rewrite transcripts and other golden files")

// Transcript runs the commands of a file in a bubble and compares the outcomes. Nothing is
// random: N returns the same numbers in each run. The file consists of blocks, separated by
// empty lines: comments, a command with arguments, ----, and its outcome. do executes a
// command; the outcome is what it tells with Tell. Consecutive lines that begin with
// concurrent, unless that is empty, may be in any order.
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
			panic(broken) // goroutines that hang in the bubble cannot be ended otherwise
		}
	})
	Golden(t, file, strings.Join(is, "\n\n")+"\n")
}

// Golden compares a file with the text that it should have. The flag -rewrite rewrites it.
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

// ordered sorts runs of lines that begin with concurrent.
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

// Forget removes what has been told so far from the outcome of a command.
func (s *Schedule) Forget() { s.told = s.told[:0] }
