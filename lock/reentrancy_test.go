package lock

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// A silentServer does not say whether another process wants a key.
type silentServer struct{ *Memory }

func (silentServer) inquire(*entry) {}

// A call that asks for a key which its caller shares, and whose context ends before the server
// has answered, says so, and not that the caller is in its own way.
func TestEndOfTheContextIsToldToWhoSharesTheKey(t *testing.T) {
	m := NewMemory()
	m.table.server, m.table.period = silentServer{m}, 0
	held, err := m.RLock(t.Context(), Name("k"))
	require.NoError(t, err)
	for name, take := range map[string]func(context.Context, Key) (*Held, error){"RLock": m.RLock, "TryRLock": m.TryRLock} {
		ctx, cancel := context.WithTimeout(held.Context(), 10*time.Millisecond)
		_, err := take(ctx, Name("k"))
		cancel()
		assert.ErrorIs(t, err, ErrBusy, name)
		assert.ErrorIs(t, err, context.DeadlineExceeded, name)
		assert.NotErrorIs(t, err, ErrHeld, name)
	}
	require.NoError(t, held.Unlock())
}
