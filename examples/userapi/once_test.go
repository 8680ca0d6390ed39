package main

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

func TestRepetitionIsAnsweredAndChangesNothing(t *testing.T) {
	db := pgtest.New(t)
	_, server := started(t, db.URL(), nil)
	ann, bob := server.URL+"/users/ann/metadata", server.URL+"/users/bob/metadata"
	for _, c := range []struct {
		method, url, body, key, match string
		status                        int
		want, tag                     string
		replayed                      bool
	}{
		{"PATCH", ann, `{"n":1}`, `"a"`, ``, 200, `{"n": 1}`, `"v1"`, false},
		{"PATCH", ann, `{"n":1}`, `"a"`, ``, 200, `{"n": 1}`, `"v1"`, true},
		{"PATCH", ann, `{"n":1}`, `a`, ``, 200, `{"n": 1}`, `"v1"`, true}, // without quotes
		{"PATCH", ann, `{"n":2}`, ``, ``, 200, `{"n": 2}`, `"v2"`, false},
		{"PATCH", ann, `{"n":1}`, `a`, ``, 200, `{"n": 2}`, `"v2"`, true}, // the current metadata
		{"PATCH", ann, `{"n":3}`, `a`, ``, 422, `used for another request, which made version 1`, ``, false},
		{"DELETE", ann, ``, `a`, ``, 422, `used for another request`, ``, false},
		{"PATCH", bob, `{"n":1}`, `a`, ``, 200, `{"n": 1}`, `"v1"`, false}, // a key belongs to a user

		{"PATCH", ann, `{"m":1}`, `b`, `"v1"`, 412, ``, ``, false},
		{"PATCH", ann, `{"m":1}`, `b`, `"v2"`, 200, `{"m": 1, "n": 2}`, `"v3"`, false}, // the refused request left no key
		{"PATCH", ann, `{"m":1}`, `b`, `"v2"`, 200, `{"m": 1, "n": 2}`, `"v3"`, true},
		{"PATCH", ann, `{"m":1}`, `b`, `"v1", "v2"`, 200, `{"m": 1, "n": 2}`, `"v3"`, true},
		{"PATCH", ann, `{"m":2}`, `c`, `"v1", "v2"`, 412, ``, ``, false},
		{"DELETE", ann, ``, `d`, `"v3"`, 204, ``, `"v4"`, false},
		{"PATCH", ann, `{"n":5}`, ``, ``, 200, ``, `"v5"`, false},
		{"DELETE", ann, ``, `d`, `"v3"`, 204, ``, `"v5"`, true},
		{"GET", ann, ``, ``, ``, 200, `{"n": 5}`, `"v5"`, false},

		{"PATCH", ann, `{"n":6}`, `" \"\\"`, ``, 200, ``, `"v6"`, false},
		{"PATCH", server.URL + "/users/eve/metadata", `{}`, `e`, ``, 404, ``, ``, false},
	} {
		var headers []string
		if c.key != "" {
			headers = append(headers, "Idempotency-Key", c.key)
		}
		if c.match != "" {
			headers = append(headers, "If-Match", c.match)
		}
		answer, body := ask(t, c.method, c.url, c.body, headers...)
		what := fmt.Sprintf("%s %s %s %q", c.method, c.url, c.body, headers)
		assert.Equal(t, c.status, answer.StatusCode, "%s: %s", what, body)
		assert.Contains(t, body, c.want, what)
		assert.Equal(t, c.tag, answer.Header.Get("ETag"), what)
		assert.Equal(t, c.replayed, answer.Header.Get("Idempotency-Replayed") == "true", what)
		if c.status >= 400 {
			assert.Equal(t, "application/problem+json", answer.Header.Get("Content-Type"), what)
		}
	}
	for _, key := range []string{"", `"`, `""`, `"a`, `a"`, `a b`, `a,b`, `"a", "b"`, `"\n"`, `"é"`, "é", "\xff", strings.Repeat("x", metadata.MaxTokenLen+1)} {
		for _, method := range []string{"PATCH", "DELETE"} {
			answer, body := ask(t, method, ann, `{"n":7}`, "Idempotency-Key", key)
			assert.Equal(t, 400, answer.StatusCode, "%q: %s", key, body)
			assert.Contains(t, body, "Idempotency-Key")
		}
	}
	r := must(http.NewRequestWithContext(t.Context(), "DELETE", ann, nil))
	r.Header["Idempotency-Key"] = []string{"a", "b"}
	answer, err := http.DefaultClient.Do(r)
	if assert.NoError(t, err) {
		answer.Body.Close()
		assert.Equal(t, 400, answer.StatusCode, "two keys")
	}
	_, body := ask(t, "GET", ann, "")
	assert.Equal(t, `{"n": 6}`, body)
}

// Clients that repeat a request while the first is in progress get its result, too.
func TestRequestsWithOneKeyAreMadeOnce(t *testing.T) {
	db := pgtest.New(t)
	_, server := started(t, db.URL(), func(c *config) { c.wait = 30 * time.Second })
	var first atomic.Int32
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			r := must(http.NewRequestWithContext(t.Context(), "PATCH", server.URL+"/users/ann/metadata", strings.NewReader(`{"n":1}`)))
			r.Header.Set("Content-Type", mergePatch)
			r.Header.Set("Idempotency-Key", "a")
			answer, err := http.DefaultClient.Do(r)
			if !assert.NoError(t, err) {
				return
			}
			answer.Body.Close()
			assert.Equal(t, 200, answer.StatusCode)
			assert.Equal(t, `"v1"`, answer.Header.Get("ETag"))
			if answer.Header.Get("Idempotency-Replayed") == "" {
				first.Add(1)
			}
		})
	}
	wg.Wait()
	assert.EqualValues(t, 1, first.Load())
}
