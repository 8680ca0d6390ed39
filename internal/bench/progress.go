package main

import (
	"fmt"
	"io"
	"os"
	"time"
)

// A progress shows how far the run is: on a terminal in one line that is updated, elsewhere in
// a line for each case.
type progress struct {
	w        io.Writer
	terminal bool
	begin    time.Time
	cases    int
	last     string
}

func newProgress(w io.Writer, cases int) *progress {
	p := &progress{w: w, begin: time.Now(), cases: cases}
	if file, ok := w.(*os.File); ok {
		info, err := file.Stat()
		p.terminal = err == nil && info.Mode()&os.ModeCharDevice != 0
	}
	return p
}

// at shows the current step of a case.
func (p *progress) at(number int, name, what string) {
	line := fmt.Sprintf("%6.0f s  %2d/%d  %s", time.Since(p.begin).Seconds(), number, p.cases, name)
	switch {
	case p.terminal:
		fmt.Fprintf(p.w, "\r\x1b[K%-50s %s", line, what)
	case name != p.last:
		fmt.Fprintln(p.w, line)
	}
	p.last = name
}

// clear clears the line for other output.
func (p *progress) clear() {
	if p.terminal {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// end shows how long the run took.
func (p *progress) end() {
	p.clear()
	fmt.Fprintf(p.w, "%6.0f s  done\n", time.Since(p.begin).Seconds())
}
