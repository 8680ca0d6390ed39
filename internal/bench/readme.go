package main

import (
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
)

// A readmeLine is a line of the table in lockstore's README: a question, its case, and the
// figure of each subject. An empty figure is left out.
type readmeLine struct {
	asks   string
	inOne  string
	figure func(row) string
}

var readmeLines = []readmeLine{
	{"merges/s into one document, 16 writers", "merge/one-document/16", perSecond},
	{"… 256 writers (99 % take at most)", "merge/one-document/256", with(perSecond, p99)},
	{"… over 1 ms", "merge/one-document/256@1ms", with(perSecond, p99)},
	{"… 4 processes × 64 writers", "merge/one-document/4-processes", perSecond},
	{"reads and changes (`Update`) of one document, 256 writers", "update/one-document/256", perSecond},
	{"… over 1 ms", "update/one-document/256@1ms", perSecond},
	{"numbers/s drawn from one counter, 256 callers", "counter/256", perSecond},
	{"merges/s into 10 000 documents, 64 writers", "merge/spread/10000", perSecond},
	{"… over 1 ms", "merge/spread/10000@1ms", perSecond},
	{"1 000 documents by one call, documents/s", "merge/many/1000", perSecond},
	{"… over 1 ms", "merge/many/1000@1ms", perSecond},
	{"merges/s into one document in transactions of yours, 16 writers", "in-transaction/16", perSecond},
	{"… if it is still of the version that was read, again until it is", "if-version/16", perSecond},
	{"one merge, one writer, 2 KB", "merge/lone/2KB", median},
	{"… over 1 ms", "merge/lone/2KB@1ms", median},
	{"locks/s, 256 goroutines with a key each (connections)", "lock/distinct/256", with(perSecond, connections)},
	{"… over 1 ms", "lock/distinct/256@1ms", with(perSecond, connections)},
	{"locks/s, 32 goroutines, one key (longest wait)", "lock/hot/empty", with(perSecond, longest)},
	{"… held for 1 ms: of the ideal (longest wait)", "lock/hot/1ms", with(ofTheIdeal, longest)},
	{"… 4 processes × 16 goroutines (longest wait)", "lock/hot/4-processes", with(perSecond, longest)},
	{"one lock and unlock, one goroutine, median", "lock/uncontended", median},
	{"… the server on the same core", "lock/uncontended/one-core", median},
	{"… over 1 ms", "lock/uncontended@1ms", median},
}

// printReadme writes the lines whose cases were run, each for lockstore, for code written by
// hand, and for the best peer.
func printReadme(out io.Writer, rows []row) error {
	var text strings.Builder
	text.WriteString("| | lockstore | by hand, with pgx | best of the others |\n|---|---|---|---|\n")
	cases := byCase(rows)
	for _, l := range readmeLines {
		s := cases[l.inOne]
		own := s.own()
		if own.Subject == "" {
			continue
		}
		best := "–"
		if r, ok := s[own.BestPeer]; ok {
			best = l.figure(r) + " " + strings.TrimPrefix(r.Subject, "|| ")
		}
		fmt.Fprintf(&text, "| %s | %s | %s | %s |\n", l.asks, l.figure(own), l.figure(s.floor()), best)
	}
	fmt.Fprintf(&text, "\nMeasured on %s.\n", measuredOn(rows))
	_, err := io.WriteString(out, text.String())
	return err
}

// floor returns the floor's row.
func (s scores) floor() (floor row) {
	for name, r := range s {
		if isFloor(name) {
			floor = r
		}
	}
	return floor
}

func perSecond(r row) string   { return grouped(r.OpsPerSec) }
func median(r row) string      { return brief(r.P50) }
func p99(r row) string         { return brief(r.P99) }
func longest(r row) string     { return brief(r.Max) }
func connections(r row) string { return strconv.Itoa(r.Conns) }
func ofTheIdeal(r row) string  { return fmt.Sprintf("%.0f %%", r.Extra[idealShare]) }

// with adds another figure in brackets.
func with(figure, more func(row) string) func(row) string {
	return func(r row) string { return figure(r) + " (" + more(r) + ")" }
}

// grouped formats a number with three significant digits, in groups.
func grouped(x float64) string {
	if x < 1 {
		return "–"
	}
	unit := math.Pow(10, max(0, math.Floor(math.Log10(x))-2))
	digits := strconv.FormatFloat(math.Round(x/unit)*unit, 'f', 0, 64)
	for i := len(digits) - 3; i > 0; i -= 3 {
		digits = digits[:i] + " " + digits[i:]
	}
	return digits
}
