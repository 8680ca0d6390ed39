package main

import (
	"slices"
	"strings"
	"time"
)

// A row is the result of a subject in a case, over all rounds: a line of the table and an
// object of the JSON array. Numbers that do not apply are null.
type row struct {
	Case    string `json:"case"`
	Subject string `json:"subject"`

	OpsPerSec float64 `json:"ops_per_sec"` // the median of the rounds
	P50       float64 `json:"p50_us"`      // of all operations of all rounds
	P99       float64 `json:"p99_us"`
	Max       float64 `json:"max_us"`

	Conns      int   `json:"conns"`
	Errors     int64 `json:"errors"`
	Violations int64 `json:"violations"` // acknowledged but lost, or overlapping

	// How many times better, by Compared: the median of the rounds' ratios.
	RatioToFloor    *float64 `json:"ratio_to_floor"`
	RatioToBestPeer *float64 `json:"ratio_to_best_peer"`
	RatioToBound    *float64 `json:"ratio_to_bound,omitempty"` // to the lowest of the case's bounds

	Compared      figure             `json:"compared"`
	OpsRange      spread             `json:"ops_per_sec_range"`
	FloorRange    *spread            `json:"ratio_to_floor_range,omitempty"`
	BestPeerRange *spread            `json:"ratio_to_best_peer_range,omitempty"`
	BoundRange    *spread            `json:"ratio_to_bound_range,omitempty"`
	BestPeer      string             `json:"best_peer,omitempty"`
	P99Ratio      *float64           `json:"p99_to_floor,omitempty"` // its p99 over the floor's
	Extra         map[string]float64 `json:"extra,omitempty"`        // medians
	Notes         []string           `json:"notes,omitempty"`
	Failed        string             `json:"failed,omitempty"` // why there are no figures
	How           string             `json:"how"`
	Rates         []float64          `json:"rates,omitempty"` // of each round, without lost operations; 0: none
	Latency       *latencies         `json:"latency"`
	Machine       string             `json:"machine"`    // where the figures were measured
	RoundTrip     string             `json:"round_trip"` // the case's distance, requested and measured
	ran           bool
}

// A spread has the minimum and maximum of the rounds.
type spread [2]float64

// isOurs and isFloor classify subjects by name; all others but bounds are peers.
func isOurs(name string) bool  { return strings.HasPrefix(name, "lockstore") }
func isFloor(name string) bool { return strings.HasPrefix(name, "floor") }

// summarize makes the rows of a case.
func (r result) summarize() []row {
	rows := make([]row, len(r.subjects))
	for i, s := range r.subjects {
		rows[i] = r.describe(s, r.outcomes[i])
	}
	best := bestPeer(rows, r.by)
	floor := slices.IndexFunc(r.subjects, func(s subject) bool { return s.name == r.floor })
	for i := range rows {
		if median, spread, ok := r.ratio(i, floor); ok {
			rows[i].RatioToFloor, rows[i].FloorRange = &median, &spread
			if p99 := rows[floor].P99; p99 > 0 {
				quotient := rows[i].P99 / p99
				rows[i].P99Ratio = &quotient
			}
		}
		if median, spread, ok := r.toBound(i); ok {
			rows[i].RatioToBound, rows[i].BoundRange = &median, &spread
		}
		if median, spread, ok := r.ratio(i, best); ok {
			rows[i].RatioToBestPeer, rows[i].BestPeerRange = &median, &spread
			rows[i].BestPeer = rows[best].Subject
		}
	}
	return rows
}

func (r result) describe(s subject, outcomes []outcome) row {
	w := row{Case: r.name, Subject: s.name, How: s.how, Compared: r.by, Latency: newLatencies(), Extra: map[string]float64{}}
	var rates []float64
	var longest time.Duration
	extras := map[string][]float64{}
	for _, o := range outcomes {
		m := o.measurement
		if m == nil {
			w.Rates = append(w.Rates, 0)
			if o.err != nil && w.Failed == "" {
				w.Failed = o.err.Error()
			}
			continue
		}
		w.ran = true
		rates = append(rates, m.rate())
		if kept, counted := m.Extra[keptPerSecond]; counted {
			w.Rates = append(w.Rates, kept)
		} else {
			w.Rates = append(w.Rates, m.rate())
		}
		w.Latency.merge(m.Latency)
		longest = max(longest, m.longest())
		w.Conns = max(w.Conns, m.Conns)
		w.Errors += m.Errors
		w.Violations += m.Violations
		if m.Error != "" {
			w.addNote("error: " + m.Error)
		}
		for name, value := range m.Extra {
			extras[name] = append(extras[name], value)
		}
	}
	for name, values := range extras {
		w.Extra[name], _ = middle(values)
	}
	if w.ran && w.Failed != "" { // some rounds succeeded
		w.addNote("a round failed: " + w.Failed)
		w.Failed = ""
	}
	w.OpsPerSec, w.OpsRange = middle(rates)
	micros := func(d time.Duration) float64 { return float64(d.Nanoseconds()) / 1000 }
	w.P50, w.P99, w.Max = micros(w.Latency.at(50)), micros(w.Latency.at(99)), micros(longest)
	return w
}

func (w *row) addNote(text string) {
	if !slices.Contains(w.Notes, text) {
		w.Notes = append(w.Notes, text)
	}
}

// bestPeer returns the index of the best subject that is neither lockstore nor a floor nor
// wrong, or -1.
func bestPeer(rows []row, by figure) int {
	best := -1
	for i, w := range rows {
		if isOurs(w.Subject) || isFloor(w.Subject) || isBound(w.Subject) || !w.ran || w.Violations > 0 || w.OpsPerSec == 0 {
			continue
		}
		if best < 0 || by == byRate && w.OpsPerSec > rows[best].OpsPerSec || by == byMedian && w.P50 < rows[best].P50 {
			best = i
		}
	}
	return best
}

// ratio compares two subjects round by round.
func (r result) ratio(subject, than int) (median float64, s spread, ok bool) {
	if than < 0 {
		return 0, s, false
	}
	var ratios []float64
	for round, o := range r.outcomes[subject] {
		if round >= len(r.outcomes[than]) {
			break
		}
		other := r.outcomes[than][round].measurement
		if o.measurement == nil || other == nil || other.Ops == 0 {
			continue
		}
		ratios = append(ratios, r.by.better(o.measurement, other))
	}
	median, s = middle(ratios)
	return median, s, len(ratios) > 0
}

// toBound compares a subject with the lowest of the case's bounds, round by round.
func (r result) toBound(subject int) (median float64, s spread, ok bool) {
	var ratios []float64
	for round, o := range r.outcomes[subject] {
		if o.measurement == nil || isBound(r.subjects[subject].name) {
			continue
		}
		lowest := 0.0
		for i, other := range r.subjects {
			if !isBound(other.name) || round >= len(r.outcomes[i]) || r.outcomes[i][round].measurement == nil {
				continue
			}
			if rate := r.outcomes[i][round].measurement.rate(); lowest == 0 || rate < lowest {
				lowest = rate
			}
		}
		if lowest > 0 {
			ratios = append(ratios, o.measurement.rate()/lowest)
		}
	}
	median, s = middle(ratios)
	return median, s, len(ratios) > 0
}

// middle returns the median, minimum and maximum of values.
func middle(values []float64) (median float64, s spread) {
	if len(values) == 0 {
		return 0, s
	}
	sorted := slices.Sorted(slices.Values(values))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2, spread{sorted[0], sorted[n-1]}
}
