package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/pgtest"
)

// A stream is the client's side of a watch.
type stream struct {
	answer *http.Response
	lines  *bufio.Reader
	leave  func()
}

func watching(t *testing.T, url string, headers ...string) *stream {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	t.Cleanup(leave)
	r := must(http.NewRequestWithContext(ctx, "GET", url, nil))
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	answer, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err)
	t.Cleanup(func() { answer.Body.Close() })
	require.Equal(t, 200, answer.StatusCode)
	return &stream{answer, bufio.NewReader(answer.Body), leave}
}

// block reads up to an empty line, or returns the error.
func (s *stream) block() (string, error) {
	for text := ""; ; {
		line, err := s.lines.ReadString('\n')
		if err != nil || line == "\n" {
			return text, err
		}
		text += line
	}
}

// event returns the next event, without heartbeats.
func (s *stream) event(t *testing.T) string {
	t.Helper()
	for {
		text, err := s.block()
		require.NoError(t, err)
		if !strings.HasPrefix(text, ":") {
			return text
		}
	}
}

// end reads until the service ends the stream properly.
func (s *stream) end(t *testing.T) {
	t.Helper()
	for {
		if _, err := s.block(); err != nil {
			assert.Equal(t, io.EOF, err)
			return
		}
	}
}

func TestWatchTellsEachState(t *testing.T) {
	db := pgtest.New(t)
	_, server := started(t, db.URL(), nil)
	ann := server.URL + "/users/ann/metadata"
	patch := func(text string) {
		answer, body := ask(t, "PATCH", ann, text)
		require.Equal(t, 200, answer.StatusCode, body)
	}
	byHand := func(sql string) {
		_, err := db.Pool().Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	open := func(headers ...string) []*stream {
		return []*stream{watching(t, ann+"?watch", headers...), watching(t, ann, append(headers, "Accept", "text/event-stream")...)}
	}
	all := open()
	tells := func(want string) {
		t.Helper()
		for _, s := range all {
			assert.Equal(t, want, s.event(t))
		}
	}
	for _, s := range all {
		assert.Equal(t, "text/event-stream", s.answer.Header.Get("Content-Type"))
		assert.Equal(t, "no-store", s.answer.Header.Get("Cache-Control"))
		assert.Equal(t, "Accept", s.answer.Header.Get("Vary"))
	}
	tells("id: 0\ndata: {}\n")
	patch(`{"text":"a\nb\r\u2028"}`)
	tells("id: 1\ndata: {\"text\": \"a\\nb\\r\u2028\"}\n") // in one line
	ask(t, "DELETE", ann, "")
	tells("id: 2\ndata: {}\n") // the user stays
	byHand(`UPDATE users SET metadata = '{"n":1}', version = 3 WHERE id = 'ann'`)
	tells("id: 3\ndata: {\"n\": 1}\n")
	byHand(`DELETE FROM users WHERE id = 'ann'`)
	tells("event: deleted\nid:\ndata: null\n")
	byHand(`INSERT INTO users (id) VALUES ('ann')`)
	tells("id: 0\ndata: {}\n")

	all = open("Last-Event-ID", "0")
	patch(`{"n":1}`)
	tells("id: 1\ndata: {\"n\": 1}\n") // not the state that the clients have
	all = open("Last-Event-ID", "0")
	tells("id: 1\ndata: {\"n\": 1}\n")
	answer, _ := ask(t, "HEAD", ann+"?watch", "")
	assert.Equal(t, "application/json", answer.Header.Get("Content-Type"), "there is nothing to watch by HEAD")
	answer, _ = ask(t, "GET", ann, "", "Accept", "application/json, text/event-stream")
	assert.Equal(t, "application/json", answer.Header.Get("Content-Type"), "what is preferred")
	assert.Equal(t, "Accept", answer.Header.Get("Vary"))
}

func TestStatusOfAWatch(t *testing.T) {
	db := pgtest.New(t)
	proxy := pgtest.NewProxy(t, db)
	s, server := started(t, proxy.URL(), func(c *config) { c.maxPerUser, c.maxTotal, c.timeout = 1, 2, 5*time.Second })
	status := func(user string) int {
		answer, body := ask(t, "GET", server.URL+"/users/"+user+"/metadata?watch", "")
		assert.Equal(t, "application/problem+json", answer.Header.Get("Content-Type"), body)
		return answer.StatusCode
	}
	assert.Equal(t, 404, status("eve"))
	assert.Equal(t, 400, status(strings.Repeat("x", 1000)))
	ann := watching(t, server.URL+"/users/ann/metadata?watch")
	ann.event(t)
	assert.Equal(t, 429, status("ann"))
	watching(t, server.URL+"/users/bob/metadata?watch").event(t)
	assert.Equal(t, 503, status("cal"), "two watch")
	answer, _ := ask(t, "GET", server.URL+"/users/ann/metadata", "")
	assert.Equal(t, 200, answer.StatusCode, "others are not kept out")
	ann.leave()
	require.Eventually(t, func() bool {
		s.watches.mu.Lock()
		defer s.watches.mu.Unlock()
		return s.watches.total == 1
	}, 10*time.Second, time.Millisecond, "it ends when the client leaves")
	watching(t, server.URL+"/users/ann/metadata?watch").event(t)

	proxy.Cut()
	s.pool.Reset()
	s.watches.leave("ann")
	defer s.watches.enter("ann")
	assert.Equal(t, 503, status("ann"))
}

// The time limits of other requests do not end a watch; its own limit does.
func TestWatchOutlastsOtherRequests(t *testing.T) {
	service, _ := started(t, pgtest.New(t).URL(), func(c *config) { c.heartbeat, c.maxWatch = 20*time.Millisecond, 5*time.Second })
	server := httptest.NewUnstartedServer(service.handler())
	server.Config.ReadTimeout, server.Config.WriteTimeout = time.Second, time.Second
	server.Start()
	t.Cleanup(server.Close)
	s := watching(t, server.URL+"/users/ann/metadata?watch")
	began, beats := time.Now(), 0
	for time.Since(began) < 3*time.Second {
		text, err := s.block()
		require.NoError(t, err)
		if strings.HasPrefix(text, ":") {
			beats++
		}
	}
	assert.Greater(t, beats, 2)
	s.end(t)
	assert.Less(t, time.Since(began), 20*time.Second)
}

// A watch, even one whose client does not read, does not delay the shutdown.
func TestWatchesEndWithTheService(t *testing.T) {
	service, address, end := serving(t, pgtest.New(t).URL(), func(c *config) { c.maxBody, c.timeout, c.grace = 4<<20, time.Minute, time.Minute })
	base := "http://" + address
	idle, busy := watching(t, base+"/users/bob/metadata?watch"), watching(t, base+"/users/ann/metadata?watch")
	idle.event(t)
	busy.event(t)
	slow, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer slow.Close()
	_, err = io.WriteString(slow, "GET /users/ann/metadata?watch HTTP/1.1\r\nHost: x\r\n\r\n")
	require.NoError(t, err)
	_, err = slow.Read(make([]byte, 1))
	require.NoError(t, err, "it watches, and reads no more")
	for n := range 8 { // more than two sockets take
		answer, body := ask(t, "PATCH", base+"/users/ann/metadata", fmt.Sprintf(`{"n":%d,"text":"%s"}`, n, strings.Repeat("x", 3<<20)))
		require.Equal(t, 200, answer.StatusCode, "%.200s", body)
		busy.event(t)
	}
	began := time.Now()
	assert.NoError(t, end(), "within its grace")
	assert.Less(t, time.Since(began), 30*time.Second)
	idle.end(t)
	busy.end(t)
	assert.Error(t, service.pool.Ping(t.Context()))
}
