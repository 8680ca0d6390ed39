package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Cases of several processes start the test binary as their workers.
func TestMain(m *testing.M) {
	if isWorker() {
		if err := serve(context.Background(), os.Stdin, os.Stdout); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

// bench runs the program and returns its output.
func bench(t *testing.T, status int, args ...string) (stdout string) {
	t.Helper()
	var out, errs bytes.Buffer
	require.Equal(t, status, run(t.Context(), args, &out, &errs), "%s", &errs)
	return out.String()
}

func TestQuickRunPrintsEveryFieldAndDraws(t *testing.T) {
	dir := t.TempDir()
	out := bench(t, 0, "-quick", "-json", "-svg", dir, "-cases", "^(lock/distinct/16|lock/hot/1ms|merge/one-document/16)$")
	var rows []map[string]any
	require.NoError(t, json.Unmarshal([]byte(out), &rows))
	subjects := map[string]bool{}
	for _, r := range rows {
		for _, field := range []string{"case", "subject", "ops_per_sec", "p50_us", "p99_us", "max_us",
			"conns", "errors", "violations", "ratio_to_floor", "ratio_to_best_peer"} {
			assert.Contains(t, r, field)
		}
		subjects[r["case"].(string)+" "+r["subject"].(string)] = true
		if isOurs(r["subject"].(string)) {
			assert.Zero(t, r["violations"], r["case"])
			assert.Positive(t, r["ops_per_sec"], r["case"])
			if ratio := r["ratio_to_floor"]; ratio != nil { // in such a short run the floor may have no result
				assert.Positive(t, ratio, r["case"])
			}
		}
	}
	assert.Len(t, subjects, len(rows), "each subject has one row in each case")
	assert.True(t, subjects["merge/one-document/16 "+storePgx.name])
	assert.FileExists(t, dir+"/lock-wait.svg")
	assert.FileExists(t, dir+"/merge-throughput.svg")
	assert.NoFileExists(t, dir+"/merge-growth.svg", "its cases were left out")
}

// Parts of a measurement are shown as one run, with all data for pictures and targets.
func TestPartsAreShownAsOneRun(t *testing.T) {
	dir := t.TempDir()
	locks, merges := dir+"/locks.json", dir+"/merges.json"
	require.NoError(t, os.WriteFile(locks, []byte(bench(t, 0, "-quick", "-json", "-cases", "^lock/hot/(1ms|empty)$")), 0o600))
	require.NoError(t, os.WriteFile(merges, []byte(bench(t, 0, "-quick", "-json", "-rtt", "0,1ms", "-cases", "^merge/one-document/16(@1ms)?$")), 0o600))
	both := locks + "," + merges
	out := bench(t, 0, "-read", both, "-svg", dir)
	assert.Regexp(t, `lock/hot/empty +rate, × go-pglock .*\(`, out, "round by round")
	for _, file := range []string{"lock-wait.svg", "merge-throughput.svg", "merge-throughput-1ms.svg"} {
		assert.FileExists(t, dir+"/"+file)
	}
	picture, err := os.ReadFile(dir + "/lock-wait.svg")
	require.NoError(t, err)
	assert.Regexp(t, `0s: .*1ms: `, strings.ReplaceAll(string(picture), "\n", " "), "every distance is in the footer")
	table := bench(t, 0, "-read", both, "-readme")
	assert.Contains(t, table, "| merges/s into one document, 16 writers | ")
	assert.Contains(t, table, "| … held for 1 ms: of the ideal (longest wait) | ")
	assert.NotContains(t, table, "counter", "which was not measured")
	bench(t, 1, "-read", locks+","+dir+"/../nowhere.json")
	require.NoError(t, os.WriteFile(dir+"/again.json", []byte(bench(t, 0, "-read", locks, "-json")), 0o600))
	bench(t, 1, "-read", locks+","+dir+"/again.json")
}

func TestProcessesShareALockAndADocument(t *testing.T) {
	out := bench(t, 0, "-quick", "-cases", "4-processes")
	assert.Contains(t, out, lockstorePgx.name)
	assert.Contains(t, out, "least share of a process")
	failed := strings.Count(out, "FAILED")
	assert.Equal(t, strings.Count(out, "FAILED: there is no redis-server"), failed, "nothing fails, but for what is not installed: %s", out)
}

// Over a distance, nothing is faster than its bound.
func TestDistanceIsABound(t *testing.T) {
	out := bench(t, 0, "-quick", "-json", "-rtt", "0,5ms", "-cases", "^merge/one-document/16(@5ms)?$")
	var rows []row
	require.NoError(t, json.Unmarshal([]byte(out), &rows))
	seen := 0
	for _, r := range rows {
		if r.Case != "merge/one-document/16@5ms" || r.Subject != storePgx.name {
			continue
		}
		seen++
		assert.GreaterOrEqual(t, r.P50, 5000.0)
		require.NotNil(t, r.RatioToBound)
		assert.Less(t, *r.RatioToBound, 1.5) // the measured time is short, and commits come in batches
		assert.Contains(t, r.Extra, "network late, p99, µs")
	}
	assert.Equal(t, 1, seen)
}

func TestWritersOfOneDocumentAreRight(t *testing.T) {
	out := bench(t, 0, "-quick", "-cases", "^(update|if-version|in-transaction|counter)/")
	assert.NotContains(t, out, "WRONG")
}

func TestWrongUseIsToldApart(t *testing.T) {
	for _, args := range [][]string{{"-cases", "nothing like it"}, {"-cases", "("}, {"-rounds", "-1"}, {"what"}, {"-what"},
		{"-rtt", "far"}, {"-rtt", "1ms,1ms"}, {"-rtt", "-1ms"}, {"-rtt", "1ms", "-cases", "backoff"}} {
		bench(t, 2, args...)
	}
	bench(t, 0, "-help")
	assert.Contains(t, bench(t, 0, "-list"), "lock/uncontended")
}

func TestEveryTargetNamesACase(t *testing.T) {
	names := map[string]bool{}
	for _, c := range suite(0, time.Millisecond, 5*time.Millisecond) {
		assert.False(t, names[c.name], "%s twice", c.name)
		names[c.name] = true
		assert.NotEmpty(t, c.asks)
		found := c.floor == ""
		for _, s := range c.subjects {
			assert.NotEmpty(t, s.how, s.name)
			found = found || s.name == c.floor
			assert.True(t, !isFloor(s.name) || s.name == c.floor, "%s is the floor of %s", s.name, c.name)
		}
		assert.True(t, found, "%s has its floor among its subjects", c.name)
	}
	for _, target := range targets {
		assert.True(t, names[target.inOne], target.inOne)
		assert.NotEqual(t, target.least > 0, target.most > 0, target.inOne)
	}
}
