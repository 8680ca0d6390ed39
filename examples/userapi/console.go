package main

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"html/template"
	"net/http"
	"slices"
	"strconv"
	"time"

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
		status := http.StatusOK
		if err != nil {
			p := problemOf(err)
			name, status, data = "sorry", p.Status, http.StatusText(p.Status)+": "+p.Error()
		}
		s.render(w, status, name, data)
	})
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
	names := map[int64]string{}
	for _, id := range users {
		names[s.store.Key(id).Int64()] = id
	}
	var rows []row
	for _, status := range found {
		rows = append(rows, row{status, names[status.Key.Int64()]})
	}
	return struct {
		Rows    []row
		Users   []string
		Commits []commit
		At      time.Time
	}{rows, users, s.commits.recent(), time.Now()}, nil
}

// users returns the first 1000 ids. With them the console can name keys of other processes,
// of which it only knows the number.
func (s *service) users(ctx context.Context) (ids []string, err error) {
	rows, err := s.pool.Query(ctx, "SELECT id FROM users ORDER BY id LIMIT 1000")
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
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
	for _, id := range users {
		if s.store.Key(id).Int64() == number {
			return row{status, id}, err
		}
	}
	return row{Status: status}, err
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
	switch {
	case errors.Is(err, lock.ErrNotPermitted):
		s.render(w, http.StatusForbidden, "sorry", "The service's role may not end that session: it needs pg_signal_backend, or to be the holder's.")
	case err != nil:
		p := problemOf(err)
		s.render(w, p.Status, "sorry", http.StatusText(p.Status)+": "+p.Error())
	default:
		s.log.Warn("evicted", "key", asked.Key.Int64(), "user", asked.User, "by", r.RemoteAddr)
		http.Redirect(w, r, "/locks", http.StatusSeeOther)
	}
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
