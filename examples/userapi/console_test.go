package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http/httptest"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/pgtest"
)

func TestConsoleShowsAndEvicts(t *testing.T) {
	db := pgtest.New(t)
	s, server := started(t, db.URL(), nil)
	other, err := lock.NewPostgres(t.Context(), db.Pool(), nil)
	require.NoError(t, err)
	defer other.Close(context.Background())
	_, list := ask(t, "GET", server.URL+"/locks", "")
	assert.Contains(t, list, "Nothing is held.")

	held, err := other.Lock(t.Context(), s.store.Key("ann"))
	require.NoError(t, err)
	_, list = ask(t, "GET", server.URL+"/locks/table", "")
	assert.Contains(t, list, `href="/locks/user?id=ann">ann</a>`, "though another process holds it")
	merged, stop := context.WithCancel(t.Context())
	left := make(chan error, 1)
	go func() { _, err := s.store.Merge(merged, "ann", []byte(`{"n":1}`)); left <- err }()
	assert.Eventually(t, func() bool {
		_, list = ask(t, "GET", server.URL+"/locks/table", "")
		return regexp.MustCompile(`<td class="n">1<div>.* <small>process \d+, \d+\.\d s, to write</small>`).MatchString(list)
	}, 20*time.Second, time.Millisecond, "who waits to write")
	stop()
	assert.Error(t, <-left)
	question := fmt.Sprintf("/locks/evict?key=%d", held.Key().Int64())
	assert.Contains(t, list, question)
	_, user := ask(t, "GET", server.URL+"/locks/user?id=ann", "")
	assert.Contains(t, user, "held by")

	_, asked := ask(t, "GET", server.URL+question, "")
	assert.Contains(t, asked, "Evict the holder of ann?")
	assert.NoError(t, held.Context().Err(), "it asks first")
	form := url.Values{"key": {fmt.Sprint(held.Key().Int64())}}
	post := func(form url.Values, headers ...string) (int, string) {
		answer, body := ask(t, "POST", server.URL+"/locks/evict", form.Encode(), append([]string{"Content-Type", "application/x-www-form-urlencoded"}, headers...)...)
		return answer.StatusCode, body
	}
	status, body := post(form)
	assert.Equal(t, 409, status, "it was another holder that the question was about")
	assert.Contains(t, body, "Evict the holder of ann?")
	for _, m := range regexp.MustCompile(`name="holder" value="([^"]*)"`).FindAllStringSubmatch(asked, -1) {
		form.Add("holder", m[1])
	}
	status, _ = post(form, "Sec-Fetch-Site", "cross-site")
	assert.Equal(t, 403, status, "another site's form")
	assert.NoError(t, held.Context().Err())
	status, _ = post(form)
	assert.Equal(t, 303, status)
	<-held.Context().Done()
	assert.ErrorIs(t, context.Cause(held.Context()), lock.ErrEvicted)
	_, list = ask(t, "GET", server.URL+"/locks", "")
	assert.Contains(t, list, "Nothing is held.")

	answer, _ := ask(t, "PATCH", server.URL+"/users/ann/metadata", `{"<script>":"&"}`)
	assert.Equal(t, 200, answer.StatusCode)
	_, list = ask(t, "GET", server.URL+"/locks", "")
	assert.Regexp(t, `<td>ann<td class="n">1<td class="n">.*<td>made`, list)
	_, user = ask(t, "GET", server.URL+"/locks/user?id=ann", "")
	assert.Contains(t, user, "&lt;script&gt;")
	for _, path := range []string{"/locks/user?id=eve", "/locks/evict?key=x", "/locks/user"} {
		answer, body := ask(t, "GET", server.URL+path, "")
		assert.Contains(t, []int{400, 404}, answer.StatusCode, path)
		assert.Contains(t, body, "That did not work")
	}
	refused := httptest.NewRecorder()
	s.sorry(refused, fmt.Errorf("evict: %w", lock.ErrNotPermitted))
	assert.Equal(t, 403, refused.Code)
	assert.Contains(t, refused.Body.String(), "pg_signal_backend")
}

// The pages load nothing from elsewhere and link to nothing elsewhere.
func TestConsoleNeedsNobodyElse(t *testing.T) {
	_, server := started(t, pgtest.New(t).URL(), nil)
	outside := regexp.MustCompile(`(?i)(https?:)?//[a-z]|url\(|@import`)
	for _, path := range []string{"/locks", "/locks/table", "/locks/console.js", "/locks/console.css", "/locks/user?id=ann", "/locks/evict?key=1"} {
		answer, body := ask(t, "GET", server.URL+path, "")
		assert.Equal(t, 200, answer.StatusCode, path)
		assert.False(t, outside.MatchString(body), path)
		assert.Contains(t, answer.Header.Get("Content-Security-Policy"), "default-src 'none'")
		assert.Equal(t, "no-store", answer.Header.Get("Cache-Control"))
	}
}

func TestConsoleIsGuarded(t *testing.T) {
	db := pgtest.New(t)
	s, server := started(t, db.URL(), nil)
	for header, value := range map[string]string{"Host": "locks.example", "X-Forwarded-For": "192.0.2.1", "Forwarded": "for=192.0.2.1", "Via": "1.1 proxy"} {
		answer, _ := ask(t, "GET", server.URL+"/locks", "", header, value)
		assert.Equal(t, 403, answer.StatusCode, header)
	}
	for from, want := range map[string]int{"127.0.0.1:5": 200, "[::1]:5": 200, "192.0.2.1:5": 403, "[2001:db8::1]:5": 403, "": 403} {
		for _, path := range []string{"/locks", "/locks/table", "/locks/console.js"} {
			r := httptest.NewRequest("GET", "http://localhost"+path, nil)
			r.RemoteAddr = from
			w := httptest.NewRecorder()
			s.handler().ServeHTTP(w, r)
			assert.Equal(t, want, w.Code, "%s of %s", path, from)
		}
	}
	_, server = started(t, db.URL(), func(c *config) { c.token = "right" })
	for authorization, want := range map[string]int{
		"":                   401,
		"Bearer wrong":       401,
		"Bearer right":       200,
		"Basic YW55OnJpZ2h0": 200, // any:right
		"Basic YW55Og==":     401, // any:
	} {
		for _, path := range []string{"/locks", "/locks/evict?key=1"} {
			var headers []string
			if authorization != "" {
				headers = []string{"Authorization", authorization}
			}
			answer, _ := ask(t, "GET", server.URL+path, "", headers...)
			assert.Equal(t, want, answer.StatusCode, "%q", authorization)
		}
	}
	answer, _ := ask(t, "GET", server.URL+"/users/ann/metadata", "")
	assert.Equal(t, 200, answer.StatusCode, "the token is the console's")
}

// The program, called as in README, works with a temporary database.
func TestProgramShowsItAll(t *testing.T) {
	ctx, end := context.WithCancel(t.Context())
	defer end()
	r, w := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		ended <- run(ctx, []string{"-addr", "127.0.0.1:0"}, "", w)
		w.Close()
	}()
	lines, found, base := bufio.NewScanner(r), regexp.MustCompile(`console=(http://\S+)/locks`), ""
	for base == "" && lines.Scan() {
		if m := found.FindStringSubmatch(lines.Text()); m != nil {
			base = m[1]
		}
	}
	require.NotEmpty(t, base, "it ended")
	go func() { _, _ = io.Copy(io.Discard, r) }()
	require.Eventually(t, func() bool {
		_, list := ask(t, "GET", base+"/locks", "")
		return strings.Contains(list, "this service")
	}, 10*time.Second, 10*time.Millisecond)
	answer, body := ask(t, "PATCH", base+"/users/cal/metadata", `{"n":1}`)
	assert.Equal(t, 423, answer.StatusCode, body)
	assert.Contains(t, body, `"holder":{"application":"userapi"`)
	end()
	assert.NoError(t, <-ended)
}
