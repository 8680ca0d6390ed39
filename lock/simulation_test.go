package lock

import (
	"testing"

	"example.com/lockstore/internal/simulate"
)

// TestSimulation plays lockers of a few processes on a model of the server, with everything
// that can go wrong between them.
func TestSimulation(t *testing.T) { simulate.Run(t, play) }

func play(s *simulate.Schedule) {
	w := newWorld(s, draw(s))
	w.Steps(60+w.N(60), w.offer, w.check)
	if w.Broken() == "" {
		w.finish()
	}
}
