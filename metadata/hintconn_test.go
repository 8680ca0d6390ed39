package metadata

import (
	"net"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Whoever asks as the server ends the connection is told why it does.
func TestHintConnSaysWhyItHasEnded(t *testing.T) {
	ours, theirs := net.Pipe()
	w := &hintConn{conn: ours, front: pgproto3.NewFrontend(ours, ours), timeout: time.Minute, answers: make(chan hintAnswer, 1)}
	go w.receive(func(string) {})
	go func() {
		server := pgproto3.NewBackend(theirs, theirs)
		_, err := server.Receive()
		assert.NoError(t, err)
		server.Send(&pgproto3.ErrorResponse{Severity: "FATAL", SeverityUnlocalized: "FATAL", Code: "57P01", Message: "terminating connection"})
		assert.NoError(t, server.Flush())
	}()
	_, err := w.ask(t.Context(), "SELECT 1")
	require.ErrorContains(t, err, "57P01")
	w.close()
}
