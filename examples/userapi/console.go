package main

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"html/template"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

//go:embed console
var files embed.FS

var pages = template.Must(template.ParseFS(files, "console/*.html"))

// evictGrace is how long a holder has to release a key before its session is ended.
const evictGrace = 5 * time.Second

// console serves the pages under /locks. They also work without their script, which keeps the
// list up to date.
func (s *service) console() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /locks", s.page("list", s.list))
	mux.Handle("GET /locks/table", s.page("table", s.list))
	mux.Handle("GET /locks/user", s.page("user", s.user))
	mux.Handle("GET /locks/evict", s.page("evict", s.askToEvict))
	mux.HandleFunc("POST /locks/evict", s.evict)
	for _, name := range []string{"console.js", "console.css"} {
		mux.HandleFunc("GET /locks/"+name, func(w http.ResponseWriter, r *http.Request) {
			http.ServeFileFS(w, r, files, "console/"+name)
		})
	}
	return mux
}

// page renders a page with the data that gather returns, or an error page.
func (s *service) page(name string, gather func(context.Context, *http.Request) (any, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ctx, cancel := context.WithTimeout(r.Context(), s.timeout)
		defer cancel()
		data, err := gather(ctx, r)
		if err != nil {
			s.sorry(w, err)
			return
		}
		s.render(w, http.StatusOK, name, data)
	})
}

// sorry renders the page for an error.
func (s *service) sorry(w http.ResponseWriter, err error) {
	p := problemOf(err)
	if errors.Is(err, lock.ErrNotPermitted) {
		p = problem{Status: http.StatusForbidden, Detail: "the service's role may not end that session; it needs pg_signal_backend, or to be the holder's"}
	}
	s.render(w, p.Status, "sorry", http.StatusText(p.Status)+": "+p.Error())
}

func (s *service) render(w http.ResponseWriter, status int, name string, data any) {
	var page bytes.Buffer // a template that fails must not send half a page
	if err := pages.ExecuteTemplate(&page, name+".html", data); err != nil {
		s.log.Error("page", "name", name, "error", err)
		http.Error(w, "this page is broken", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_, _ = page.WriteTo(w) // the browser may be gone
}

// A row is a key in the list.
type row struct {
	lock.Status
	User string // the user whose metadata the key locks; empty: another key
}

// Name returns the user's id, or the key if it is not a user's.
func (r row) Name() string {
	if r.User != "" {
		return r.User
	}
	return r.Key.String()
}

// Waits returns the number of waiters in all processes.
func (r row) Waits() int { return r.Waiters + r.WaitersHere }

// list returns the keys that are held or waited for.
func (s *service) list(ctx context.Context, _ *http.Request) (any, error) {
	found, err := s.locker.List(ctx, "")
	if err != nil {
		return nil, err
	}
	users, err := s.users(ctx)
	if err != nil {
		return nil, err
	}
	var rows []row
	for _, status := range found {
		rows = append(rows, row{status, users[status.Key.Int64()]})
	}
	return struct {
		Rows    []row
		Users   []string
		Commits []commit
		At      time.Time
	}{rows, slices.Sorted(maps.Values(users)), s.commits.recent(), time.Now()}, nil
}

// users returns the first 1000 ids by the numbers of their keys: of keys of other processes the
// console only knows the number.
func (s *service) users(ctx context.Context) (map[int64]string, error) {
	rows, err := s.pool.Query(ctx, "SELECT id FROM users ORDER BY id LIMIT 1000")
	if err != nil {
		return nil, err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	users := map[int64]string{}
	for _, id := range ids {
		users[s.store.Key(id).Int64()] = id
	}
	return users, err
}

// user returns the current state of a user's metadata.
func (s *service) user(ctx context.Context, r *http.Request) (any, error) {
	id := r.FormValue("id")
	doc, err := s.store.Get(ctx, id)
	if err != nil {
		return nil, err
	}
	status, err := s.locker.Status(ctx, s.store.Key(id))
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	if err := json.Indent(&text, doc.Metadata, "", "  "); err != nil {
		return nil, err
	}
	return struct {
		metadata.Document
		Text  string
		Bytes int
		Row   row
	}{doc, text.String(), len(doc.Metadata), row{status, id}}, nil
}

// statusOf returns the status of the key that a request names.
func (s *service) statusOf(ctx context.Context, r *http.Request) (row, error) {
	number, err := strconv.ParseInt(r.FormValue("key"), 10, 64)
	if err != nil {
		return row{}, &problem{Status: http.StatusBadRequest, Detail: "no such key"}
	}
	status, err := s.locker.Status(ctx, lock.ID(number))
	if err != nil {
		return row{}, err
	}
	users, err := s.users(ctx)
	return row{status, users[number]}, err
}

// askToEvict returns the holders that would lose the key.
func (s *service) askToEvict(ctx context.Context, r *http.Request) (any, error) {
	return s.statusOf(ctx, r)
}

// evict evicts the holders of a key, but only if they are those that askToEvict showed.
func (s *service) evict(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), s.timeout+evictGrace)
	defer cancel()
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	asked, err := s.statusOf(ctx, r)
	if err == nil {
		for _, h := range asked.Holders {
			if !slices.Contains(r.PostForm["holder"], session(h)) {
				s.render(w, http.StatusConflict, "evict", asked) // the holders have changed: ask again
				return
			}
		}
		err = s.locker.Evict(ctx, asked.Key, evictGrace)
	}
	if err != nil {
		s.sorry(w, err)
		return
	}
	s.log.Warn("evicted", "key", asked.Key.Int64(), "user", asked.User, "by", r.RemoteAddr)
	http.Redirect(w, r, "/locks", http.StatusSeeOther)
}

// session identifies a holder's session in a form.
func session(h lock.Holder) string {
	return strconv.FormatUint(uint64(h.PID), 10) + "@" + strconv.FormatInt(h.Start.UnixMicro(), 10)
}

// Sessions returns session for each holder.
func (r row) Sessions() (names []string) {
	for _, h := range r.Holders {
		names = append(names, session(h))
	}
	return names
}
