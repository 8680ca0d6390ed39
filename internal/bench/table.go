package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"
)

// printTable writes the rows of a case as a table.
func printTable(out io.Writer, c testCase, rows []row) error {
	fmt.Fprintf(out, "\n%s: %s\n", c.name, c.asks)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintf(w, "%s\tops/s\tmin–max\tp50\tp99\tmax\tconns\terrors\tlost or overlapping\t× floor\t× best peer\t× bound\t\n", pad("subject", rows))
	for _, r := range rows {
		if r.Failed != "" {
			fmt.Fprintf(w, "%s\tfailed\t–\t–\t–\t–\t–\t–\t–\t–\t–\t\n", pad(r.Subject, rows))
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s–%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\t%s\t%s\t\n", pad(r.Subject, rows),
			count(r.OpsPerSec), count(r.OpsRange[0]), count(r.OpsRange[1]),
			brief(r.P50), brief(r.P99), brief(r.Max), r.Conns, r.Errors, wrong(r.Violations),
			times(r.RatioToFloor, r.FloorRange), times(r.RatioToBestPeer, r.BestPeerRange), times(r.RatioToBound, r.BoundRange))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	for _, r := range rows {
		var remarks []string
		for _, name := range slices.Sorted(maps.Keys(r.Extra)) {
			remarks = append(remarks, fmt.Sprintf("%s: %s", name, count(r.Extra[name])))
		}
		remarks = append(remarks, r.Notes...)
		if r.Failed != "" {
			remarks = append(remarks, "FAILED: "+r.Failed)
		}
		if len(remarks) > 0 {
			fmt.Fprintf(out, "  %s  %s\n", pad(r.Subject, rows), firstLine(strings.Join(remarks, "; ")))
		}
	}
	return nil
}

// pad returns a left-aligned first column, as wide as the widest subject.
func pad(name string, rows []row) string {
	width := utf8.RuneCountInString("subject")
	for _, r := range rows {
		width = max(width, utf8.RuneCountInString(r.Subject))
	}
	return name + strings.Repeat(" ", width-utf8.RuneCountInString(name))
}

func wrong(n int64) string {
	if n > 0 {
		return fmt.Sprintf("%d WRONG", n)
	}
	return "0"
}

func times(ratio *float64, s *spread) string {
	if ratio == nil {
		return "–"
	}
	return fmt.Sprintf("%s (%s–%s)", digits(*ratio), digits(s[0]), digits(s[1]))
}

// digits formats a ratio with its significant digits.
func digits(x float64) string {
	switch {
	case x == 0:
		return "0"
	case x < 0.1:
		return fmt.Sprintf("%.1g", x)
	case x < 10:
		return fmt.Sprintf("%.2f", x)
	case x < 100:
		return fmt.Sprintf("%.1f", x)
	default:
		return fmt.Sprintf("%.0f", x)
	}
}

func count(x float64) string {
	switch {
	case x >= 1e6:
		return fmt.Sprintf("%.1fM", x/1e6)
	case x >= 10_000:
		return fmt.Sprintf("%.1fk", x/1e3)
	case x >= 100:
		return fmt.Sprintf("%.0f", x)
	default:
		return fmt.Sprintf("%.3g", x)
	}
}

// brief formats microseconds as a duration with about three digits.
func brief(micros float64) string {
	d := time.Duration(micros * 1000)
	switch {
	case d == 0:
		return "–"
	case d < time.Microsecond:
		return fmt.Sprintf("%d ns", d.Nanoseconds())
	case d < time.Millisecond:
		return fmt.Sprintf("%.3g µs", micros)
	case d < time.Second:
		return fmt.Sprintf("%.3g ms", micros/1e3)
	default:
		return fmt.Sprintf("%.3g s", micros/1e6)
	}
}

func firstLine(text string) string {
	line, _, _ := strings.Cut(text, "\n")
	if len(line) > 240 {
		line = strings.ToValidUTF8(line[:240], "") + "…"
	}
	return line
}
