package simulate

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

var drawn = flag.String("mutants", "2", "how many of the mutants to test, chosen at random; or all, or the name of one")

// A Mutant is a change of the code that breaks a rule. The simulation must find it.
type Mutant struct {
	Name      string
	File      string // in the directory
	Old, New  string // Old must occur exactly once
	Rule      string // the broken rule, or several separated by commas, one of which breaks
	Schedules int    // how many schedules find it; 0 means 30 000
	Test      string // the test that finds it; empty: the argument of RejectMutants
}

// RejectMutants builds the package in dir with each mutant in turn and runs test, or the
// mutant's own test, which must report the mutant's rule. The flag -mutants selects the
// mutants to run. For all of them it checks that they still fit the code.
func RejectMutants(t *testing.T, dir, test string, mutants []Mutant) {
	sources := map[string]string{}
	for _, m := range mutants {
		source, err := os.ReadFile(filepath.Join(dir, m.File))
		if err != nil {
			t.Fatal(err)
		}
		sources[m.File] = string(source)
		if n := strings.Count(string(source), m.Old); n != 1 {
			t.Errorf("%s: what it replaces is %d times in %s, not once:\n%s", m.Name, n, m.File, m.Old)
		}
	}
	if t.Failed() || testing.Short() || raced {
		return
	}
	for _, m := range draw(t, mutants) {
		t.Run(m.Name, func(t *testing.T) {
			mutated := strings.Replace(sources[m.File], m.Old, m.New, 1)
			m.reject(t, dir, cmp.Or(m.Test, test), mutated)
		})
	}
}

// draw returns the mutants that the flag -mutants selects.
func draw(t *testing.T, mutants []Mutant) []Mutant {
	if *drawn == "all" {
		return mutants
	}
	if i := slices.IndexFunc(mutants, func(m Mutant) bool { return m.Name == *drawn }); i >= 0 {
		return mutants[i : i+1]
	}
	n, err := strconv.Atoi(*drawn)
	if err != nil {
		t.Fatalf("-mutants: %q is no mutant and no number", *drawn)
	}
	mutants = slices.Clone(mutants)
	rand.Shuffle(len(mutants), func(i, j int) { mutants[i], mutants[j] = mutants[j], mutants[i] })
	return mutants[:min(n, len(mutants))]
}

// playsFor limits a mutant's build and runs. A mutant that breaks another rule first is run
// again, up to plays times, because most break several rules. So is one that is played in real
// time, for some seconds, and breaks none in them.
const (
	playsFor = 10 * time.Minute
	plays    = 10
)

var (
	brokenBy = regexp.MustCompile(`seed \d+: ([^:]+): .*`)
	playedBy = regexp.MustCompile(`\d+ schedules`)
)

func (m Mutant) reject(t *testing.T, dir, test, source string) {
	ctx, cancel := context.WithTimeout(t.Context(), playsFor)
	defer cancel()
	bin := filepath.Join(t.TempDir(), "mutant.test")
	if out, err := m.build(ctx, dir, t.TempDir(), bin, source); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	schedules := m.Schedules
	if schedules == 0 {
		schedules = 30000
	}
	for range plays {
		cmd := exec.CommandContext(ctx, bin, "-test.run=^"+test+"$", "-test.v", "-test.timeout=0", "-shorten=false", fmt.Sprintf("-schedules=%d", schedules))
		cmd.Dir = dir
		out, _ := cmd.CombinedOutput()
		broken := brokenBy.FindSubmatch(out)
		if broken == nil && m.Test != "" {
			continue
		}
		if broken == nil {
			t.Fatalf("is not found:\n%s", bytes.TrimSpace(out))
		}
		t.Logf("%s, %s", playedBy.Find(out), broken[0])
		if slices.Contains(strings.Split(m.Rule, ", "), string(broken[1])) {
			return
		}
	}
	t.Errorf("breaks none of %s", m.Rule)
}

// build builds the package's test with source in place of the mutant's file.
func (m Mutant) build(ctx context.Context, dir, temp, bin, source string) ([]byte, error) {
	original, err := filepath.Abs(filepath.Join(dir, m.File))
	if err != nil {
		return nil, err
	}
	mutated := filepath.Join(temp, filepath.Base(m.File))
	if err := os.WriteFile(mutated, []byte(source), 0o600); err != nil {
		return nil, err
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {original: mutated}})
	if err != nil {
		return nil, err
	}
	file := filepath.Join(temp, "overlay.json")
	if err := os.WriteFile(file, overlay, 0o600); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "go", "test", "-c", "-vet=off", "-overlay="+file, "-o", bin, ".")
	cmd.Dir = dir
	return cmd.CombinedOutput()
}
