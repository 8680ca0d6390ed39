package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
)

// A picture is a chart made from the rows of some cases.
type picture struct {
	file string
	draw func(rows []row) chart
}

var pictures = []picture{
	mergeThroughput("merge-throughput.svg", ""),
	mergeThroughput("merge-throughput-1ms.svg", "@1ms"),
	lockThroughput("lock-throughput.svg", ""),
	lockThroughput("lock-throughput-1ms.svg", "@1ms"),
	{"lock-wait.svg", waits},
	{"merge-growth.svg", growth},
}

// mergeThroughput and lockThroughput match the names of cases.
func mergeThroughput(file, distance string) picture {
	return picture{file, func(rows []row) chart {
		return throughput(rows, regexp.MustCompile(`^merge/one-document/(\d+)`+distance+`$`), "writers", chart{
			title:    "Merges per second into one document" + far(distance),
			subtitle: "the more writers, the more merges share a commit; each is acknowledged when it is on disk",
		})
	}}
}

func lockThroughput(file, distance string) picture {
	return picture{file, func(rows []row) chart {
		return throughput(rows, regexp.MustCompile(`^lock/distinct/(\d+)`+distance+`$`), "goroutines, each with a key of its own", chart{
			title:    "Locks taken and given back per second" + far(distance),
			subtitle: fmt.Sprintf("lockstore on one connection, the others on up to %d", distinctConns),
		})
	}}
}

func far(distance string) string {
	if distance == "" {
		return ", over a Unix socket"
	}
	return fmt.Sprintf(", over a network of %s there and back", strings.TrimPrefix(distance, "@"))
}

// leftOut has subjects that are in no picture, because their line would cover another.
var leftOut = map[string]bool{
	storeSQLX.name: true, transactionLock.name: true, gooseTable.name: true, zep24.name: true,
	socketBoundName: true,
}

// colours has each peer's class of line, the same in all pictures.
var colours = map[string]string{
	goPglock.name: "p1", redisLock.name: "p2", gooseSession.name: "p3",
	rowLock.name: "p4", cirelloPglock.name: "p5", compareAndSwap.name: "p6", etcdLock.name: "p7",
}

// drawPictures draws the pictures whose cases have been run, and names the others.
func drawPictures(dir string, rows []row) (missing []string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for _, p := range pictures {
		c := p.draw(rows)
		if len(c.lines) == 0 {
			missing = append(missing, p.file)
			continue
		}
		c.footer = measuredOn(rows).String()
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, p.file), c.svg(), 0o644))
	}
	return missing, err
}

// throughput draws the rates of the cases whose names match, over the number in the name.
func throughput(rows []row, cases *regexp.Regexp, x string, c chart) chart {
	c.lines = collect(rows, cases, func(r row) float64 { return r.OpsPerSec })
	c.x = axis{label: x, log: true, ticks: numbers(rows, cases), text: plainNumber}
	c.y = axis{label: "per second", log: true, ticks: decades(c.lines), text: shortNumber}
	return c
}

func growth(rows []row) chart {
	cases := regexp.MustCompile(`^merge/growth/(\d+)$`)
	c := chart{
		title:    "The cost of a merge as documents become more",
		subtitle: "8 writers merge into documents of 200 B, chosen at random; the median of a merge's time",
		lines:    collect(rows, cases, func(r row) float64 { return r.P50 / 1000 }),
	}
	c.x = axis{label: "documents", log: true, ticks: numbers(rows, cases), text: shortNumber}
	c.y = axis{label: "milliseconds", ticks: steps(c.lines), text: plainNumber}
	return c
}

// waits draws the percentiles of waits, from the median to the maximum: the further to the
// right, the rarer are longer waits. The maximum includes waits that the end of the run cut
// short.
func waits(rows []row) chart {
	c := chart{
		title:    "Waiting for a busy lock",
		subtitle: "32 goroutines want one key and keep it for 1 ms each, so that a fair wait is about 32 ms: how long do they wait?",
	}
	percents := []float64{50, 75, 90, 95, 99, 99.9}
	const longest = 10_000
	for _, r := range rows {
		if r.Case != "lock/hot/1ms" || leftOut[r.Subject] || r.Latency == nil || r.Latency.TotalCount() < 10 {
			continue
		}
		l := line{name: nameOf(r), class: classOf(r)}
		for _, p := range percents {
			l.points = append(l.points, point{rarity(p), max(r.Latency.at(p).Seconds()*1000, 0.01)})
		}
		l.points = append(l.points, point{longest, r.Max / 1000})
		c.lines = append(c.lines, l)
	}
	names := map[float64]string{longest: "the longest"}
	ticks := []float64{}
	for _, p := range []float64{50, 90, 99, 99.9} {
		names[rarity(p)] = strconv.FormatFloat(p, 'g', 4, 64) + " %"
		ticks = append(ticks, rarity(p))
	}
	c.x = axis{label: "of all waits are no longer than this", log: true, ticks: append(ticks, longest),
		text: func(v float64) string { return names[v] }}
	c.y = axis{label: "milliseconds", log: true, ticks: decades(c.lines), text: plainNumber}
	return c
}

// rarity stretches the percents towards 100.
func rarity(percent float64) float64 { return 1 / (1 - percent/100) }

// collect returns a line for each subject: a figure over the number in the case's name.
func collect(rows []row, cases *regexp.Regexp, figure func(row) float64) []line {
	var lines []line
	place := map[string]int{}
	for _, r := range rows {
		match := cases.FindStringSubmatch(r.Case)
		if match == nil || r.Failed != "" || figure(r) <= 0 || leftOut[r.Subject] {
			continue
		}
		i, known := place[r.Subject]
		if !known {
			i = len(lines)
			place[r.Subject] = i
			lines = append(lines, line{name: nameOf(r), class: classOf(r)})
		}
		if r.Violations > 0 { // in one place is enough
			lines[i].name, lines[i].class = nameOf(r), classOf(r)
		}
		n, _ := strconv.ParseFloat(match[1], 64)
		lines[i].points = append(lines[i].points, point{n, figure(r)})
	}
	return lines
}

func nameOf(r row) string {
	name := strings.TrimSuffix(r.Subject, " (pgx)")
	if r.Violations > 0 {
		name += ": WRONG"
	}
	return name
}

func classOf(r row) string {
	switch {
	case r.Violations > 0:
		return "wrong"
	case isOurs(r.Subject):
		return "own"
	case isFloor(r.Subject):
		return "floor"
	case isBound(r.Subject):
		return "bound"
	}
	return colours[r.Subject]
}

// numbers returns the numbers in the names of the cases, in order.
func numbers(rows []row, cases *regexp.Regexp) []float64 {
	var all []float64
	for _, r := range rows {
		if match := cases.FindStringSubmatch(r.Case); match != nil {
			if n, _ := strconv.ParseFloat(match[1], 64); len(all) == 0 || all[len(all)-1] != n {
				all = append(all, n)
			}
		}
	}
	return all
}

func plainNumber(v float64) string {
	return strings.TrimSuffix(strings.TrimRight(fmt.Sprintf("%.2f", v), "0"), ".")
}

func shortNumber(v float64) string {
	switch {
	case v >= 1e6:
		return plainNumber(v/1e6) + " M"
	case v >= 1e4:
		return plainNumber(v/1e3) + " k"
	}
	return plainNumber(v)
}
