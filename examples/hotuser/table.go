package main

import (
	"fmt"
	"io"
	"time"
)

// printTable writes the results as a table.
func printTable(w io.Writer, results []result) error {
	const row = "%-14s %8v %13v %7v %6v %13v %9v %9v %9v"
	if _, err := fmt.Fprintf(w, row+"\n", "strategy", "writers", "acknowledged", "failed", "LOST", "locks leaked", "p50", "p99", "wall"); err != nil {
		return err
	}
	for _, r := range results {
		note := ""
		if r.cut {
			note = "  " + cutNote
		}
		if _, err := fmt.Fprintf(w, row+"%s\n", r.Strategy, r.Writers, r.Acknowledged, r.Failed, r.Lost, r.LeakedLocks,
			brief(r.p50), brief(r.p99), brief(r.wall), note); err != nil {
			return err
		}
	}
	return nil
}

// brief formats a duration with about three digits.
func brief(d time.Duration) string {
	switch ms := float64(d) / float64(time.Millisecond); {
	case d >= 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d >= time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d >= 10*time.Millisecond:
		return fmt.Sprintf("%.0f ms", ms)
	default:
		return fmt.Sprintf("%.2f ms", ms)
	}
}
