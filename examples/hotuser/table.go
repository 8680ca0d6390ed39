package main

import (
	"fmt"
	"io"
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
			brief(r.P50), brief(r.P99), brief(1000*r.Seconds), note); err != nil {
			return err
		}
	}
	return nil
}

// brief formats milliseconds with about three digits.
func brief(ms float64) string {
	switch {
	case ms >= 10_000:
		return fmt.Sprintf("%.1f s", ms/1000)
	case ms >= 1000:
		return fmt.Sprintf("%.2f s", ms/1000)
	case ms >= 10:
		return fmt.Sprintf("%.0f ms", ms)
	default:
		return fmt.Sprintf("%.2f ms", ms)
	}
}
