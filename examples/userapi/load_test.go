package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

var names = []string{"ann", "bob", "cal"}

// A load is a number of clients. Each patches its own keys into a user's metadata.
type load struct {
	client *http.Client
	base   string
	acked  [3]sync.Map // by user: keys that were answered with 200
	count  atomic.Int64
	others sync.Map // statuses of the other answers
}

func newLoad(t *testing.T, base string, clients int) *load {
	transport := &http.Transport{MaxIdleConnsPerHost: clients}
	t.Cleanup(transport.CloseIdleConnections)
	return &load{client: &http.Client{Transport: transport, Timeout: time.Minute}, base: base}
}

// patch reports whether the client may continue.
func (l *load) patch(client, n int) bool {
	key := fmt.Sprintf("%d-%d", client, n)
	r, err := http.NewRequest("PATCH", l.base+"/users/"+names[client%3]+"/metadata", bytes.NewReader(fmt.Appendf(nil, `{"%s":1}`, key)))
	if err != nil {
		return false
	}
	r.Header.Set("Content-Type", mergePatch)
	answer, err := l.client.Do(r)
	if err != nil {
		return false
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		l.others.Store(answer.StatusCode, key)
		return false
	}
	l.acked[client%3].Store(key, true)
	l.count.Add(1)
	return true
}

// kept compares the acknowledged keys with the metadata.
func (l *load) kept(t *testing.T, db *pgtest.DB) (stored int) {
	store, err := metadata.NewPostgres(db.Pool(), &metadata.Options{Table: metadata.Table{Name: "users", Version: "version"}})
	require.NoError(t, err)
	defer store.Close()
	for i, id := range names {
		doc, err := store.Get(t.Context(), id)
		require.NoError(t, err)
		keys := map[string]int{}
		require.NoError(t, json.Unmarshal(doc.Metadata, &keys))
		assert.EqualValues(t, len(keys), doc.Version, "each patch once")
		lost := 0
		l.acked[i].Range(func(key, _ any) bool {
			if _, there := keys[key.(string)]; !there {
				lost++
			}
			return true
		})
		assert.Zero(t, lost, "of the patches of %s that were acknowledged", id)
		stored += len(keys)
	}
	return stored
}

func TestNothingIsLostUnderLoad(t *testing.T) {
	const clients, each = 200, 10
	db := pgtest.New(t)
	_, server := started(t, db.URL(), func(c *config) { c.wait, c.timeout = 30*time.Second, time.Minute })
	l := newLoad(t, server.URL, clients)
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			for n := range each {
				assert.True(t, l.patch(i, n))
			}
		})
	}
	wg.Wait()
	assert.EqualValues(t, clients*each, l.count.Load())
	assert.Equal(t, clients*each, l.kept(t, db))
}

func TestNothingIsLostByAnEndInMidLoad(t *testing.T) {
	const clients = 200
	db := pgtest.New(t)
	s, address, end := serving(t, db.URL(), func(c *config) { c.demo, c.drain = true, 20*time.Millisecond })
	l := newLoad(t, "http://"+address, clients)
	l.client.Timeout = 30 * time.Second
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			client := i
			if client%3 == 2 { // cal's document is the job's
				client++
			}
			for n := 0; l.patch(client, i*1_000_000+n); n++ {
			}
		})
	}
	require.Eventually(t, func() bool { return l.count.Load() > 2*clients }, 30*time.Second, time.Millisecond)
	assert.NoError(t, end(), "within its grace")
	wg.Wait()
	_, err := s.store.Get(t.Context(), "ann")
	assert.ErrorIs(t, err, metadata.ErrClosed)
	assert.Error(t, s.pool.Ping(t.Context()), "the pool is closed, and last")
	l.others.Range(func(status, key any) bool {
		assert.Fail(t, "a request was cut off", "%v for %v", status, key)
		return true
	})
	_, _ = db.Pool().Exec(t.Context(), `UPDATE users SET metadata = '{}', version = 0 WHERE id = 'cal'`)
	assert.EqualValues(t, l.count.Load(), l.kept(t, db), "every patch that was begun was answered")
	var locks int
	require.NoError(t, db.Pool().QueryRow(t.Context(), `SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`).Scan(&locks))
	assert.Zero(t, locks)
}
