package main

import (
	"bytes"
	"fmt"
	"html"
)

// The picture's dimensions, in user units.
const (
	svgWidth  = 960
	svgMargin = 24
	svgTop    = 122 // of the first row
	svgRow    = 46
	svgBarAt  = 150
	svgBar    = 440 // the width of all writers
	svgHeight = 28  // of a bar
)

// svgParts are the parts of a bar, from left to right.
var svgParts = []struct {
	class, legend string
	of            func(result) int
}{
	{"kept", "acknowledged, and in the document", result.kept},
	{"lost", "acknowledged, but LOST", func(r result) int { return r.Lost }},
	{"failed", "failed, and the writer knows", func(r result) int { return r.Failed }},
}

// svgColumns are the columns to the right of the bars, with right-aligned text.
var svgColumns = []struct {
	at    int
	title string
	text  func(result) string
	bad   func(result) bool
}{
	{652, "lost", func(r result) string { return fmt.Sprint(r.Lost) }, func(r result) bool { return r.Lost > 0 }},
	{754, "locks leaked", func(r result) string { return fmt.Sprint(r.LeakedLocks) }, func(r result) bool { return r.LeakedLocks > 0 }},
	{846, "p50", func(r result) string { return brief(r.P50) }, func(result) bool { return false }},
	{svgWidth - svgMargin, "all done", func(r result) string {
		if r.cut {
			return "hung"
		}
		return brief(1000 * r.Seconds)
	}, func(r result) bool { return r.cut }},
}

const svgStyle = `
	text { font: 14px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2933 }
	.title { font-size: 20px; font-weight: 600 }
	.dim { fill: #66727f; font-size: 12.5px }
	.own { font-weight: 600 }
	.right { text-anchor: end }
	.bad { fill: #c62f2f; font-weight: 600 }
	.count { fill: #fff; font-size: 13px; font-weight: 600; text-anchor: middle }
	.count.failed { fill: #46525e }
	rect.card { fill: #fff; stroke: #dde2e7 }
	rect.kept { fill: #2f7fb8 }
	rect.lost { fill: #d8433b }
	rect.failed { fill: #d3d9df }`

// drawing returns the table as a self-contained SVG picture.
func drawing(results []result) []byte {
	var b bytes.Buffer
	height := svgTop + svgRow*len(results) + 14
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[2]d" width="%[1]d" height="%[2]d" role="img">`+"\n", svgWidth, height)
	fmt.Fprintf(&b, "<title>%s: what became of every merge</title>\n", html.EscapeString(heading(results)))
	fmt.Fprintf(&b, "<style>%s\n</style>\n", svgStyle)
	fmt.Fprintf(&b, `<rect class="card" x="0.5" y="0.5" width="%d" height="%d" rx="10"/>`+"\n", svgWidth-1, height-1)
	drawText(&b, "title", svgMargin, 38, heading(results))
	drawLegend(&b)
	for _, c := range svgColumns {
		drawText(&b, "dim right", c.at, svgTop-14, c.title)
	}
	for i, r := range results {
		drawRow(&b, r, svgTop+svgRow*i)
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// heading returns the title. All results are of the same run.
func heading(results []result) string {
	r := results[0]
	if r.processes > 1 {
		return fmt.Sprintf("%d writers in %d processes merge into one user's metadata at once", r.Writers, r.processes)
	}
	return fmt.Sprintf("%d writers merge into one user's metadata at once", r.Writers)
}

func drawLegend(b *bytes.Buffer) {
	x := svgMargin
	for _, part := range svgParts {
		fmt.Fprintf(b, `<rect class="%s" x="%d" y="57" width="13" height="13" rx="3"/>`+"\n", part.class, x)
		drawText(b, "dim", x+20, 68, part.legend)
		x += 46 + 7*len(part.legend)
	}
}

func drawRow(b *bytes.Buffer, r result, y int) {
	baseline := y + svgHeight/2 + 5
	class := "name"
	if s, err := strategyNamed(r.Strategy); err == nil && s.promises {
		class = "own"
	}
	drawText(b, class, svgMargin, baseline, r.Strategy)
	x := float64(svgBarAt)
	for _, part := range svgParts {
		n := part.of(r)
		if n == 0 {
			continue
		}
		width := svgBar * float64(n) / float64(r.Writers)
		fmt.Fprintf(b, `<rect class="%s" x="%.1f" y="%d" width="%.1f" height="%d"/>`+"\n", part.class, x, y, max(width-1, 1), svgHeight)
		if count := fmt.Sprint(n); width > float64(9*len(count)+6) {
			drawText(b, "count "+part.class, int(x+width/2), baseline, count)
		}
		x += width
	}
	for _, c := range svgColumns {
		class := "right"
		if c.bad(r) {
			class += " bad"
		}
		drawText(b, class, c.at, baseline, c.text(r))
	}
}

func drawText(b *bytes.Buffer, class string, x, y int, text string) {
	fmt.Fprintf(b, `<text class="%s" x="%d" y="%d">%s</text>`+"\n", class, x, y, html.EscapeString(text))
}
