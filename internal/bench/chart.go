package main

import (
	"bytes"
	"cmp"
	"fmt"
	"html"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// A chart has lines over two axes. It is a self-contained SVG picture, which follows the
// reader's light or dark mode.
type chart struct {
	title, subtitle string
	footer          string
	x, y            axis
	lines           []line
}

// An axis maps values to positions. The first and the last tick are its ends.
type axis struct {
	label string
	log   bool
	ticks []float64
	text  func(float64) string
}

type line struct {
	name   string
	class  string // of chartStyle
	points []point
}

type point struct{ x, y float64 }

// The picture's dimensions, in user units.
const (
	chartWidth  = 960
	chartHeight = 546
	plotLeft    = 84
	plotRight   = 700 // the lines' names are to its right
	plotTop     = 116
	plotBottom  = 440
	labelSpace  = 19  // between two names
	lineLetters = 128 // that fit into a line of small print
	footerLine  = 16
)

const chartStyle = `
	:root { color-scheme: light dark }
	text { font: 14px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2933 }
	.card { fill: #fff; stroke: #dde2e7 }
	.title { font-size: 20px; font-weight: 600 }
	.dim { fill: #66727f; font-size: 12.5px }
	.middle { text-anchor: middle }
	.end { text-anchor: end }
	.grid { stroke: #e8ecef; stroke-width: 1 }
	.axis { stroke: #9aa5b1; stroke-width: 1 }
	.lead { fill: none; stroke-width: 1; opacity: .5 }
	.line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round }
	.dot { stroke: #fff; stroke-width: 1.5 }
	.name { font-size: 13.5px }
	.line.own { stroke-width: 4 }
	.name.own { font-weight: 600 }
	.line.floor, .line.wrong { stroke-dasharray: 7 5 }
	.line.bound { stroke-dasharray: 2 5 }
`

const darkStyle = `
		text { fill: #e4e8ec }
		.card { fill: #12171d; stroke: #2c343d }
		.dim { fill: #97a3af }
		.grid { stroke: #232a32 }
		.axis { stroke: #566270 }
		.dot { stroke: #12171d }
`

// palette is the color of each class of line, on light and on dark.
var palette = []struct{ class, light, dark string }{
	{"own", "#1f6fb2", "#58b0f5"},
	{"floor", "#5b6773", "#9aa7b4"},
	{"bound", "#8d99a5", "#6f7c89"},
	{"wrong", "#cf3a32", "#ff6f66"},
	{"p1", "#b26a00", "#f0a33a"},
	{"p2", "#1b8a6b", "#45c79e"},
	{"p3", "#8450c4", "#b993f0"},
	{"p4", "#b03a78", "#ec7fb4"},
	{"p5", "#6b7d12", "#b5c94a"},
	{"p6", "#0f8a9d", "#4cc5d6"},
	{"p7", "#3d56d6", "#8c9bff"},
}

// style returns the style sheet. It uses no CSS variables, which some SVG renderers do not
// support.
func style() string {
	var light, dark strings.Builder
	for _, c := range palette {
		const rule = "\t.line.%[1]s, .lead.%[1]s { stroke: %[2]s } .dot.%[1]s, .name.%[1]s { fill: %[2]s }\n"
		fmt.Fprintf(&light, rule, c.class, c.light)
		fmt.Fprintf(&dark, "\t"+rule, c.class, c.dark)
	}
	return chartStyle + light.String() + "\t@media (prefers-color-scheme: dark) {" + darkStyle + dark.String() + "\t}"
}

// svg draws the chart.
func (c chart) svg() []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[2]d" width="%[1]d" height="%[2]d" role="img">`+"\n", chartWidth, chartHeight)
	fmt.Fprintf(&b, "<title>%s</title>\n<style>%s\n</style>\n", html.EscapeString(c.title), style())
	fmt.Fprintf(&b, `<rect class="card" x="0.5" y="0.5" width="%d" height="%d" rx="10"/>`+"\n", chartWidth-1, chartHeight-1)
	writeText(&b, "title", 24, 38, c.title)
	writeText(&b, "dim", 24, 61, c.subtitle)
	footer := wrap(c.footer, lineLetters)
	for i, text := range footer {
		writeText(&b, "dim", 24, chartHeight-14-footerLine*(len(footer)-1-i), text)
	}
	c.drawAxes(&b)
	for _, l := range slices.Backward(c.lines) { // the first is on top
		c.drawLine(&b, l)
	}
	c.drawNames(&b)
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// wrap breaks a text between words, into lines of a maximum length.
func wrap(text string, letters int) []string {
	var lines []string
	for _, word := range strings.Fields(text) {
		last := len(lines) - 1
		if last >= 0 && utf8.RuneCountInString(lines[last])+1+utf8.RuneCountInString(word) <= letters {
			lines[last] += " " + word
		} else {
			lines = append(lines, word)
		}
	}
	return lines
}

func (c chart) drawAxes(b *bytes.Buffer) {
	for _, v := range c.y.ticks {
		y := c.placeY(v)
		fmt.Fprintf(b, `<line class="grid" x1="%d" y1="%.1f" x2="%d" y2="%.1f"/>`+"\n", plotLeft, y, plotRight, y)
		writeText(b, "dim end", plotLeft-10, y+4, c.y.text(v))
	}
	for _, v := range c.x.ticks {
		x := c.placeX(v)
		fmt.Fprintf(b, `<line class="axis" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/>`+"\n", x, plotBottom, x, plotBottom+5)
		writeText(b, "dim middle", x, plotBottom+22, c.x.text(v))
	}
	fmt.Fprintf(b, `<line class="axis" x1="%d" y1="%d" x2="%d" y2="%d"/>`+"\n", plotLeft, plotBottom, plotRight, plotBottom)
	writeText(b, "dim middle", (plotLeft+plotRight)/2, plotBottom+44, c.x.label)
	writeText(b, "dim", 24, plotTop-20, c.y.label)
}

func (c chart) drawLine(b *bytes.Buffer, l line) {
	var path strings.Builder
	for i, p := range l.points {
		fmt.Fprintf(&path, "%c%.1f %.1f", "ML"[min(i, 1)], c.placeX(p.x), c.placeY(p.y))
	}
	fmt.Fprintf(b, `<path class="line %s" d="%s"/>`+"\n", l.class, path.String())
	for _, p := range l.points {
		fmt.Fprintf(b, `<circle class="dot %s" cx="%.1f" cy="%.1f" r="4.5"/>`+"\n", l.class, c.placeX(p.x), c.placeY(p.y))
	}
}

// drawNames writes each line's name next to its last point, moved up or down if two would touch.
func (c chart) drawNames(b *bytes.Buffer) {
	type name struct {
		line
		at, y float64
	}
	var names []name
	for _, l := range c.lines {
		if len(l.points) > 0 {
			y := c.placeY(l.points[len(l.points)-1].y)
			names = append(names, name{l, y, y})
		}
	}
	slices.SortStableFunc(names, func(a, b name) int { return cmp.Compare(a.at, b.at) })
	for range 100 {
		for i := 1; i < len(names); i++ {
			if overlap := labelSpace - (names[i].y - names[i-1].y); overlap > 0 {
				names[i-1].y -= overlap / 2
				names[i].y += overlap / 2
			}
		}
		for i := range names {
			names[i].y = min(max(names[i].y, plotTop), plotBottom)
		}
	}
	for _, n := range names {
		last := n.points[len(n.points)-1]
		fmt.Fprintf(b, `<path class="lead %s" d="M%.1f %.1fL%d %.1f"/>`+"\n", n.class, c.placeX(last.x)+7, n.at, plotRight+20, n.y)
		writeText(b, "name "+n.class, plotRight+26, n.y+4.5, n.name)
	}
}

func (c chart) placeX(v float64) float64 {
	return plotLeft + 16 + c.x.part(v)*(plotRight-plotLeft-32)
}

func (c chart) placeY(v float64) float64 {
	return plotBottom - c.y.part(v)*(plotBottom-plotTop)
}

// part returns the position of v on the axis, from 0 to 1. Values beyond an end are drawn at it.
func (a axis) part(v float64) float64 {
	from, to := a.ticks[0], a.ticks[len(a.ticks)-1]
	v = min(max(v, from), to)
	if a.log {
		from, to, v = math.Log(from), math.Log(to), math.Log(v)
	}
	return quotient(v-from, to-from)
}

// decades returns the powers of ten that enclose all values of the lines.
func decades(lines []line) []float64 {
	low, high := math.Inf(1), math.Inf(-1)
	for _, l := range lines {
		for _, p := range l.points {
			low, high = min(low, p.y), max(high, p.y)
		}
	}
	if low > high || low <= 0 {
		return []float64{1, 10}
	}
	first, last := math.Floor(math.Log10(low)), math.Ceil(math.Log10(high))
	var ticks []float64
	for e := first; e <= max(last, first+1); e++ {
		ticks = append(ticks, math.Pow(10, e))
	}
	return ticks
}

// steps returns round numbers from 0 to beyond the largest value of the lines.
func steps(lines []line) []float64 {
	var high float64
	for _, l := range lines {
		for _, p := range l.points {
			high = max(high, p.y)
		}
	}
	unit := math.Pow(10, math.Floor(math.Log10(max(high, 1e-9))))
	for _, of := range []float64{0.2, 0.5, 1, 2, 5} {
		if high/(unit*of) <= 6 {
			unit *= of
			break
		}
	}
	ticks := []float64{0}
	for v := unit; ticks[len(ticks)-1] < high; v += unit {
		ticks = append(ticks, v)
	}
	return ticks
}

func writeText[N int | float64](b *bytes.Buffer, class string, x, y N, text string) {
	fmt.Fprintf(b, `<text class="%s" x="%v" y="%v">%s</text>`+"\n", class, tenth(float64(x)), tenth(float64(y)), html.EscapeString(text))
}

func tenth(x float64) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", x), ".0") }
