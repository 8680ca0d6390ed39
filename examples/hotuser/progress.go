package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// progress shows how far a strategy is: on a terminal one line that is updated, elsewhere a
// line every few seconds.
type progress struct {
	w        io.Writer
	terminal bool
	strategy string
	writers  int
	begin    time.Time
	done     chan struct{}
	painter  sync.WaitGroup

	mu                   sync.Mutex
	acknowledged, failed int
}

// startProgress shows the progress until stop.
func startProgress(w io.Writer, strategy string, writers int) *progress {
	p := &progress{
		w: w, terminal: isTerminal(w), strategy: strategy, writers: writers,
		begin: time.Now(), done: make(chan struct{}),
	}
	p.painter.Go(func() {
		every := 5 * time.Second
		if p.terminal {
			every = 100 * time.Millisecond
			p.paint()
		}
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				p.paint()
			case <-p.done:
				return
			}
		}
	})
	return p
}

func isTerminal(w io.Writer) bool {
	file, ok := w.(*os.File)
	if !ok {
		return false
	}
	info, err := file.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func (p *progress) add(o outcome) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if o.Error == "" {
		p.acknowledged++
	} else {
		p.failed++
	}
}

func (p *progress) paint() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.line(time.Since(p.begin).Seconds(), fmt.Sprintf("%d of %d writers: %d acknowledged, %d failed",
		p.acknowledged+p.failed, p.writers, p.acknowledged, p.failed))
}

func (p *progress) line(seconds float64, text string) {
	before, after := "", "\n"
	if p.terminal {
		before, after = "\r\x1b[K", ""
	}
	fmt.Fprintf(p.w, "%s%-14s %6.1f s  %s%s", before, p.strategy, seconds, text, after)
}

// stop ends the line, with the result unless there was an error.
func (p *progress) stop(r result, err error) {
	close(p.done)
	p.painter.Wait()
	if err == nil {
		text := fmt.Sprintf("%d acknowledged, %d lost, %d failed", r.Acknowledged, r.Lost, r.Failed)
		if r.cut {
			text += ", " + cutNote
		} else if r.reason != "" {
			text += fmt.Sprintf(" (%s)", r.reason)
		}
		p.line(r.Seconds, text)
	}
	if p.terminal {
		fmt.Fprintln(p.w)
	}
}
