package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// readsByHand has a test answer each statement: those that read, in their order.
type readsByHand struct {
	reads
	sent []chan error
}

func newReadsByHand(most int) *readsByHand {
	return &readsByHand{reads: reads{of: map[readKey]*busyReads{}, most: most}}
}

type readAnswer struct {
	doc Document
	err error
}

// begin has a caller read, and returns once it waits for something.
func (r *readsByHand) begin(ctx context.Context) <-chan readAnswer {
	answer := make(chan readAnswer, 1)
	go func() {
		doc, err := r.get(ctx, readKey{id: "d"}, func() (Document, error) {
			if ctx.Err() != nil {
				return Document{}, ctx.Err()
			}
			n, reply := len(r.sent), make(chan error)
			r.sent = append(r.sent, reply)
			err := <-reply
			return Document{ID: "d", Metadata: json.RawMessage(`{}`), Version: int64(n + 1)}, err
		})
		answer <- readAnswer{doc, err}
	}()
	synctest.Wait()
	return answer
}

// reply answers a statement.
func (r *readsByHand) reply(n int, err error) {
	r.sent[n] <- err
	synctest.Wait()
}

func TestReadsServeThoseThatCameBeforeTheyWereSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReadsByHand(2)
		first, second := r.begin(t.Context()), r.begin(t.Context())
		assert.Len(t, r.sent, 2, "which wait for nobody")
		third, fourth := r.begin(t.Context()), r.begin(t.Context())
		assert.Len(t, r.sent, 2)
		r.reply(1, nil)
		assert.EqualValues(t, 2, (<-second).doc.Version)
		assert.Len(t, r.sent, 3, "one for both")
		fifth := r.begin(t.Context())
		r.reply(2, nil)
		a, b := <-third, <-fourth
		assert.EqualValues(t, 3, a.doc.Version)
		assert.Equal(t, a, b)
		a.doc.Metadata[0] = '!'
		assert.Equal(t, "{}", string(b.doc.Metadata), "each has its own")
		assert.Empty(t, fifth, "which came after it was sent")
		r.reply(3, nil)
		assert.EqualValues(t, 4, (<-fifth).doc.Version)
		r.reply(0, nil)
		assert.EqualValues(t, 1, (<-first).doc.Version)
		assert.Empty(t, r.of, "nothing is kept")
	})
}

func TestReadsDoNotShareErrorsContextsOrPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReadsByHand(1)
		r.begin(t.Context())
		leader, follower := r.begin(t.Context()), r.begin(t.Context())
		ctx, cancel := context.WithCancel(t.Context())
		leaves := r.begin(ctx)
		cancel()
		assert.ErrorIs(t, (<-leaves).err, context.Canceled, "while others read")
		r.reply(0, nil)
		r.reply(1, errors.New("the leader's"))
		assert.EqualError(t, (<-leader).err, "the leader's")
		assert.Len(t, r.sent, 3, "who was taken along reads by itself")
		r.reply(2, nil)
		assert.NoError(t, (<-follower).err)

		hangs := r.begin(t.Context())
		waits := r.begin(t.Context())
		time.Sleep(lateLeader)
		synctest.Wait()
		assert.Len(t, r.sent, 5, "who has waited for long reads by itself")
		r.begin(t.Context())
		assert.Len(t, r.sent, 6, "and nobody waits then")
		r.reply(4, nil)
		assert.NoError(t, (<-waits).err)
		assert.Empty(t, hangs)
		r.reply(5, nil)
		r.reply(3, nil)
		assert.Empty(t, r.of)
	})
}

func TestReadsGoOnAfterAPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReadsByHand(1)
		begun, panics := make(chan struct{}), make(chan any, 1)
		go func() {
			defer func() { panics <- recover() }()
			r.get(t.Context(), readKey{id: "d"}, func() (Document, error) { <-begun; panic("a tracer's") })
		}()
		synctest.Wait()
		waits := r.begin(t.Context())
		close(begun)
		assert.Equal(t, "a tracer's", <-panics)
		synctest.Wait()
		r.reply(0, nil)
		assert.NoError(t, (<-waits).err)
		assert.Empty(t, r.of)
	})
}
