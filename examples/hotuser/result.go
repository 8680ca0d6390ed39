package main

import (
	"encoding/json"
	"io"
	"math"
	"slices"
	"time"
)

// A result is the result of one strategy, a row of the table. A writer's time ends with its
// answer, whether that is an error or not.
type result struct {
	Strategy     string  `json:"strategy"`
	Writers      int     `json:"writers"`
	Acknowledged int     `json:"acknowledged"`
	Failed       int     `json:"failed"`
	Lost         int     `json:"lost"` // of those acknowledged
	LeakedLocks  int     `json:"leaked_locks"`
	P50          float64 `json:"p50_ms"`
	P99          float64 `json:"p99_ms"`
	Seconds      float64 `json:"seconds"` // until all writers had ended

	processes int
	cut       bool   // the run was cut
	reason    string // the most frequent reason for failures
}

// cutNote marks a run that was cut.
const cutNote = "hung, and was cut"

func newResult(strategy string, processes int, outcomes []outcome, wall time.Duration) result {
	r := result{Strategy: strategy, Writers: len(outcomes), Seconds: rounded(wall, time.Second), processes: processes}
	reasons := map[string]int{}
	var took []time.Duration
	for _, o := range outcomes {
		took = append(took, o.Took)
		if o.Error == "" {
			r.Acknowledged++
			continue
		}
		r.Failed++
		r.cut = r.cut || o.Cut
		if reasons[o.Error]++; reasons[o.Error] > reasons[r.reason] {
			r.reason = o.Error
		}
	}
	slices.Sort(took)
	r.P50, r.P99 = rounded(percentile(took, 50), time.Millisecond), rounded(percentile(took, 99), time.Millisecond)
	return r
}

// percentile returns the p-th percentile of sorted durations, by nearest rank.
func percentile(sorted []time.Duration, p int) time.Duration {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[(len(sorted)*p+99)/100-1]
}

// rounded returns d in units, rounded to three decimals.
func rounded(d, unit time.Duration) float64 {
	return math.Round(float64(d)/float64(unit)*1000) / 1000
}

// kept returns the number of merges that were acknowledged and are in the document.
func (r result) kept() int { return r.Acknowledged - r.Lost }

func printJSON(w io.Writer, results []result) error {
	out := json.NewEncoder(w)
	out.SetIndent("", "  ")
	return out.Encode(results)
}
