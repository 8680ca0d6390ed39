package lock

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/stretchr/testify/assert"
)

// ends notes when a session ended, and asks nothing of it.
type ends struct{ at chan time.Time }

func (e ends) answered(*session, []op, time.Time) {}
func (e ends) lost(*session, error, []op)         { e.at <- time.Now() }

// A server answers pings, but not for a while from begin on. Whenever between two pings that
// begins, it ends the session if it lasts longer than Silence, and soon after that.
func TestSilenceIsWhatEndsASession(t *testing.T) {
	const silence = 3 * time.Second
	for begin := 10 * time.Second; begin < 10*time.Second+2*silence; begin += silence / 24 {
		for _, lasts := range []time.Duration{silence / 2, silence - time.Millisecond, 2 * silence} {
			synctest.Test(t, func(t *testing.T) {
				start := time.Now()
				here, there := net.Pipe()
				go func() {
					backend := pgproto3.NewBackend(there, there)
					for {
						if _, err := backend.Receive(); err != nil {
							return
						}
						if at := time.Since(start); at >= begin && at < begin+lasts {
							time.Sleep(begin + lasts - at)
						}
						backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
						if backend.Flush() != nil {
							return
						}
					}
				}()
				ended := ends{make(chan time.Time, 1)}
				s := newSession(here, Backend{}, silence, false, ended)
				go s.serve()
				time.Sleep(begin + 3*silence)
				select {
				case at := <-ended.at:
					quiet := at.Sub(start) - begin
					assert.Greater(t, lasts, silence, "after %s", quiet)
					assert.GreaterOrEqual(t, quiet, silence)
					assert.LessOrEqual(t, quiet, silence+silence/3)
				default:
					assert.Less(t, lasts, silence, "from %s on", begin)
				}
				s.end(nil)
				there.Close()
			})
		}
	}
}
