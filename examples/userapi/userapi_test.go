package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// started starts a service on a database, behind a test server.
func started(t *testing.T, dsn string, change func(*config)) (*service, *httptest.Server) {
	t.Helper()
	c := defaults
	c.migrate, c.wait = true, 50*time.Millisecond
	if change != nil {
		change(&c)
	}
	s, err := open(t.Context(), dsn, c, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	t.Cleanup(s.close)
	server := httptest.NewServer(s.handler())
	t.Cleanup(server.Close)
	return s, server
}

// serving has a service serve at an address until end is called, which returns serve's error.
func serving(t *testing.T, dsn string, change func(*config)) (s *service, address string, end func() error) {
	t.Helper()
	c := defaults
	c.migrate = true
	change(&c)
	s, err := open(t.Context(), dsn, c, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(context.Background())
	t.Cleanup(stop)
	ended := make(chan error, 1)
	go func() { ended <- s.serve(ctx, listener) }()
	return s, listener.Addr().String(), func() error {
		stop()
		return <-ended
	}
}

// ask sends a request, with headers as pairs, and returns the response and its body.
func ask(t *testing.T, method, url, body string, headers ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	if method == "PATCH" {
		r.Header.Set("Content-Type", mergePatch)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	if host := r.Header.Get("Host"); host != "" {
		r.Host = host
	}
	answer, err := http.DefaultTransport.RoundTrip(r) // follows no redirects
	require.NoError(t, err)
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	require.NoError(t, err)
	return answer, string(text)
}

func TestStatusOfEachAnswer(t *testing.T) {
	db := pgtest.New(t)
	_, server := started(t, db.URL(), func(c *config) { c.maxBody = 2000 })
	ann, bob := server.URL+"/users/ann/metadata", server.URL+"/users/bob/metadata"
	deep := strings.Repeat(`{"a":`, 80) + "1" + strings.Repeat("}", 80)
	for _, c := range []struct {
		method, url, body string
		headers           []string
		status            int
		want              string // of the body
		tag               string
	}{
		{"GET", ann, "", nil, 200, `{}`, `"v0"`},
		{"PATCH", ann, `{"plan":"pro","n":{"m":1}}`, nil, 200, `{"n": {"m": 1}, "plan": "pro"}`, `"v1"`},
		{"PATCH", ann, `{"plan":"pro"}`, nil, 200, `{"n": {"m": 1}, "plan": "pro"}`, `"v1"`},
		{"HEAD", ann, "", nil, 200, ``, `"v1"`},
		{"GET", ann, "", []string{"If-None-Match", `"v0", W/"v1"`}, 304, ``, `"v1"`},
		{"GET", ann, "", []string{"If-None-Match", `"v0"`}, 200, `{"n": {"m": 1}, "plan": "pro"}`, `"v1"`},
		{"PATCH", ann, `{"n":null}`, []string{"If-Match", `"v1"`}, 200, `{"plan": "pro"}`, `"v2"`},
		{"PATCH", ann, `{"n":2}`, []string{"If-Match", `"v1"`}, 412, `"title":"Precondition Failed"`, ""},
		{"PATCH", ann, `{"n":2}`, []string{"If-Match", `W/"v2"`}, 412, `GET it again`, ""},
		{"PATCH", ann, `{"n":2}`, []string{"If-Match", `"of another"`}, 412, ``, ""},
		{"PATCH", ann, `{"n":2}`, []string{"If-Match", `"v1", "v02"`}, 412, ``, ""},
		{"PATCH", ann, `{"n":2}`, []string{"If-Match", `"v1" ,"v2"`}, 200, `{"n": 2, "plan": "pro"}`, `"v3"`},
		{"PATCH", ann, `{"n":2}`, []string{"If-Match", `*`}, 200, `{"n": 2, "plan": "pro"}`, `"v3"`},
		{"PATCH", ann, `{"n":2}`, []string{"If-Match", `v3`}, 400, `entity tags in quotes`, ""},
		{"PATCH", ann, `{"n":2}`, []string{"If-None-Match", `*`}, 400, `If-None-Match is for GET`, ""},
		{"DELETE", ann, "", []string{"If-Match", `"v2"`}, 412, ``, ""},
		{"DELETE", ann, "", []string{"If-Match", `"v3"`}, 204, ``, `"v4"`},
		{"GET", ann, "", nil, 200, `{}`, `"v4"`},
		{"DELETE", ann, "", nil, 204, ``, `"v4"`},
		{"GET", server.URL + "/users/eve/metadata", "", nil, 404, `no such user`, ""},
		{"PATCH", server.URL + "/users/eve/metadata", `{}`, nil, 404, ``, ""},
		{"DELETE", server.URL + "/users/eve/metadata", ``, nil, 404, ``, ""},
		{"PATCH", server.URL + "/users/eve/metadata", `{}`, []string{"If-Match", `"v1","v2"`}, 404, ``, ""},
		{"GET", server.URL + "/users", "", nil, 404, ``, ""},
		{"GET", server.URL + "/users/" + strings.Repeat("x", metadata.MaxIDLen+1) + "/metadata", "", nil, 400, `no user can have this id`, ""},
		{"PATCH", ann, `{"n":`, nil, 400, ``, ""},
		{"PATCH", ann, ``, nil, 400, ``, ""},
		{"PUT", ann, `{}`, nil, 405, ``, ""},
		{"PATCH", ann, `{"n":"` + strings.Repeat("x", 2001) + `"}`, nil, 413, `a patch may have 2000 bytes`, ""},
		{"PATCH", ann, `{"n":[` + strings.Repeat(`1e9,`, 400) + `1]}`, nil, 413, ``, ""},
		{"PATCH", ann, `{"n":1}`, []string{"Content-Type", "application/json"}, 415, `want application/merge-patch+json`, ""},
		{"PATCH", ann, `{"n":1}`, []string{"Content-Encoding", "gzip"}, 415, ``, ""},
		{"PATCH", ann, `[1]`, nil, 422, `at $`, ""},
		{"PATCH", ann, deep, nil, 422, ``, ""},
		{"PATCH", ann, `{"age":"old secret"}`, nil, 422, `refused by the database: users_metadata_check`, ""},
		{"PATCH", ann, `{"roles":["admin"]}`, nil, 403, `\"roles\"`, ""},
		{"PATCH", ann, `{"handle":"@taken"}`, nil, 200, ``, `"v5"`},
		{"PATCH", bob, `{"handle":"@taken"}`, nil, 409, `refused by the database: users_handle`, ""},
	} {
		answer, body := ask(t, c.method, c.url, c.body, c.headers...)
		what := fmt.Sprintf("%s %s %.40s %q", c.method, c.url, c.body, c.headers)
		assert.Equal(t, c.status, answer.StatusCode, "%s: %s", what, body)
		assert.Contains(t, body, c.want, what)
		assert.Equal(t, c.tag, answer.Header.Get("ETag"), what)
		if c.status >= 400 && c.status != 405 && c.url != server.URL+"/users" {
			assert.Equal(t, "application/problem+json", answer.Header.Get("Content-Type"), what)
			assert.NotContains(t, body, "secret")
		}
		if c.status == 415 {
			assert.Equal(t, mergePatch, answer.Header.Get("Accept-Patch"))
		}
	}
	for n := range 5 { // of which four fit
		answer, body := ask(t, "PATCH", bob, fmt.Sprintf(`{"%d":"%s"}`, n, strings.Repeat("x", 1900)))
		if n < 4 {
			assert.Equal(t, 200, answer.StatusCode, n)
			continue
		}
		assert.Equal(t, 413, answer.StatusCode)
		assert.Contains(t, body, "the metadata would be too large")
	}
	assert.Equal(t, 500, problemOf(errors.New("boom")).Status)
	assert.Equal(t, 504, problemOf(fmt.Errorf("x: %w", metadata.ErrUnknownOutcome)).Status)
	assert.Equal(t, 403, problemOf(&metadata.RejectedError{SQLState: "42501", Cause: errors.New("x")}).Status)
	assert.Equal(t, 503, problemOf(fmt.Errorf("x: %w", lock.ErrLost)).Status)
}

func TestStatusWhereOthersHoldTheDocument(t *testing.T) {
	db := pgtest.New(t)
	s, server := started(t, db.URL(), func(c *config) { c.maxPerUser, c.maxTotal = 1, 2 })
	other, err := lock.NewPostgres(t.Context(), db.Pool(), nil)
	require.NoError(t, err)
	defer other.Close(context.Background())
	held, err := other.Lock(t.Context(), s.store.Key("ann"))
	require.NoError(t, err)
	b, _ := held.Backend(held.Key())

	answer, body := ask(t, "PATCH", server.URL+"/users/ann/metadata", `{"n":1}`)
	assert.Equal(t, 423, answer.StatusCode, body)
	assert.Equal(t, "1", answer.Header.Get("Retry-After"))
	var told problem
	require.NoError(t, json.Unmarshal([]byte(body), &told))
	require.NotNil(t, told.Holder, body)
	assert.Equal(t, b.PID, told.Holder.PID)
	answer, _ = ask(t, "GET", server.URL+"/users/ann/metadata", "")
	assert.Equal(t, 200, answer.StatusCode, "readers do not wait")

	s.wait = time.Minute
	status := make(chan int, 1)
	go func() {
		answer, err := http.DefaultClient.Do(must(http.NewRequest("DELETE", server.URL+"/users/ann/metadata", nil)))
		if err != nil {
			status <- 0
			return
		}
		answer.Body.Close()
		status <- answer.StatusCode
	}()
	require.Eventually(t, func() bool {
		s.limits.mu.Lock()
		defer s.limits.mu.Unlock()
		return s.limits.byUser["ann"] == 1
	}, 10*time.Second, time.Millisecond)
	answer, _ = ask(t, "GET", server.URL+"/users/ann/metadata", "")
	assert.Equal(t, 429, answer.StatusCode)
	assert.Equal(t, "1", answer.Header.Get("Retry-After"))
	require.Zero(t, s.limits.enter("bob"))
	answer, _ = ask(t, "GET", server.URL+"/users/cal/metadata", "")
	assert.Equal(t, 503, answer.StatusCode, "two are under way")
	assert.Equal(t, "1", answer.Header.Get("Retry-After"))
	s.limits.leave("bob")
	require.NoError(t, held.Unlock())
	assert.Equal(t, 204, <-status)
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestStatusWhereTheDatabaseCannotBeUsed(t *testing.T) {
	db := pgtest.New(t)
	proxy := pgtest.NewProxy(t, db)
	s, server := started(t, proxy.URL(), func(c *config) { c.timeout = 2 * time.Second })
	ready := func() int { answer, _ := ask(t, "GET", server.URL+"/readyz", ""); return answer.StatusCode }
	ann := server.URL + "/users/ann/metadata"
	assert.Equal(t, 200, ready())

	all := s.pool.AcquireAllIdle(t.Context())
	for range int(s.pool.Config().MaxConns) - len(all) {
		all = append(all, must(s.pool.Acquire(t.Context())))
	}
	answer, body := ask(t, "GET", ann, "")
	assert.Equal(t, 504, answer.StatusCode, body)
	for _, conn := range all {
		conn.Release()
	}

	proxy.Cut()
	for _, method := range []string{"GET", "PATCH", "DELETE"} {
		s.pool.Reset()
		answer, body := ask(t, method, ann, `{"n":1}`)
		assert.Equal(t, 503, answer.StatusCode, body)
		assert.Equal(t, "1", answer.Header.Get("Retry-After"))
	}
	assert.Equal(t, 503, ready())
	answer, _ = ask(t, "GET", server.URL+"/healthz", "")
	assert.Equal(t, 200, answer.StatusCode)
}
