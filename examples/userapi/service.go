package main

import (
	"cmp"
	"context"
	_ "embed"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

//go:embed schema.sql
var schema string

// A service is the state that the handlers share.
type service struct {
	config
	pool    *pgxpool.Pool
	store   *metadata.Postgres
	locker  *lock.Postgres
	log     *slog.Logger
	limits  *limits
	watches *limits // separate, because watches last long
	commits *commits

	draining   atomic.Bool     // not ready for more requests
	serving    context.Context // ends when the service stops listening; ends the watches
	endWatches context.CancelFunc
}

// open connects to the database and logs the problems of its configuration.
func open(ctx context.Context, dsn string, c config, log *slog.Logger) (s *service, err error) {
	of, err := pgxpool.ParseConfig(dsn)
	if err != nil { // err may quote the DSN
		return nil, errors.New("the database's address cannot be read: want a URL or a keyword=value list")
	}
	of.PingTimeout = cmp.Or(of.PingTimeout, 2*time.Second)
	if params := of.ConnConfig.RuntimeParams; params["application_name"] == "" {
		params["application_name"] = "userapi" // Status shows it for holders
	}
	pool, err := pgxpool.NewWithConfig(ctx, of)
	if err != nil {
		return nil, err
	}
	s = &service{
		config:  c,
		pool:    pool,
		log:     log,
		limits:  newLimits(c.maxTotal, c.maxPerUser),
		watches: newLimits(c.maxTotal, c.maxPerUser),
		commits: &commits{},
	}
	s.serving, s.endWatches = context.WithCancel(context.Background())
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	seen := &operator{log}
	s.locker, err = lock.NewPostgres(ctx, pool, &lock.PostgresOptions{Observers: []lock.Observer{seen}, Logger: log})
	if err != nil {
		return s, err
	}
	s.store, err = metadata.NewPostgres(pool, &metadata.Options{
		Table:            metadata.Table{Name: "users", Version: "version", UpdatedAt: "updated_at", Tokens: metadata.DefaultTokens},
		LockStatus:       s.locker.Status, // for 423
		MaxPatchBytes:    c.maxBody,
		MaxDocumentBytes: 4 * c.maxBody,
		Protect:          []string{"roles"}, // which users must not change
		Observers:        []metadata.Observer{s.commits, seen},
		Logger:           log,
	})
	if err != nil {
		return s, err
	}
	if c.migrate {
		if _, err := pool.Exec(ctx, schema); err != nil {
			return s, err
		}
		if err := s.store.Migrate(ctx); err != nil {
			return s, err
		}
	}
	return s, s.check(ctx)
}

// check logs the findings. It returns an error only if the database cannot be queried.
func (s *service) check(ctx context.Context) error {
	found, err := s.locker.Check(ctx)
	if err != nil {
		return err
	}
	more, err := s.store.Check(ctx)
	if err != nil {
		return err
	}
	for _, f := range append(found, more...) {
		s.log.Warn("not as it should be", "setting", f.Setting, "is", f.Value, "want", f.Want, "why", f.Why)
	}
	return nil
}

// serve handles requests until ctx ends. Then it shuts down in this order, so that no request
// in progress is lost:
//
//  1. It reports that it is not ready, and gives load balancers time to notice.
//  2. It stops listening, ends the watches, and waits for requests in progress.
//  3. It closes the store, which waits for writes in progress, and then the locker.
//  4. It closes the pool.
func (s *service) serve(ctx context.Context, listener net.Listener) error {
	defer s.close()
	server := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       s.timeout,
		WriteTimeout:      s.timeout + evictGrace + 10*time.Second, // no request takes longer
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(s.log.Handler(), slog.LevelWarn),
	}
	server.RegisterOnShutdown(s.endWatches) // after the server has stopped listening
	if s.demo {
		var jobs sync.WaitGroup
		defer jobs.Wait()
		working, stop := context.WithCancel(ctx)
		defer stop()
		jobs.Go(func() { s.job(working) })
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	s.draining.Store(true)
	s.log.Info("ending")
	select {
	case err := <-failed:
		return err
	case <-time.After(s.drain):
	}
	ending, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.grace)
	defer cancel()
	if err := server.Shutdown(ending); err != nil {
		return errors.Join(fmt.Errorf("requests were cut off after %s", s.grace), server.Close())
	}
	return nil
}

// close closes what open has opened, even if open failed halfway.
func (s *service) close() {
	s.endWatches()
	if s.store != nil {
		s.store.Close()
	}
	if s.locker != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.locker.Close(ctx); err != nil {
			s.log.Warn("the locker was not closed in time", "error", err)
		}
	}
	s.pool.Close()
}

// handler returns the handler of all routes.
func (s *service) handler() http.Handler {
	mux := http.NewServeMux()
	get, watch := s.limited(s.limits, s.timeout, s.get), s.limited(s.watches, s.maxWatch, s.watch)
	mux.HandleFunc("GET /users/{id}/metadata", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Vary", "Accept")
		if wantsEvents(r) {
			watch.ServeHTTP(w, r)
			return
		}
		get.ServeHTTP(w, r)
	})
	mux.Handle("PATCH /users/{id}/metadata", s.limited(s.limits, s.timeout, s.patch))
	mux.Handle("DELETE /users/{id}/metadata", s.limited(s.limits, s.timeout, s.remove))
	console := s.guarded(s.console())
	mux.Handle("/locks", console)
	mux.Handle("/locks/", console)
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "alive") })
	mux.HandleFunc("GET /readyz", s.ready)
	return s.logged(mux)
}

// ready tells load balancers whether to send requests.
func (s *service) ready(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), time.Second)
	defer cancel()
	if s.draining.Load() || s.pool.Ping(ctx) != nil {
		http.Error(w, "not ready", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ready")
}

// A recorder records the status of a response.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

// Unwrap is for [http.ResponseController].
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// logged logs each request, without bodies and queries.
func (s *service) logged(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		began, answered := time.Now(), &recorder{w, http.StatusOK}
		next.ServeHTTP(answered, r)
		level := slog.LevelInfo
		switch {
		case answered.status >= 500:
			level = slog.LevelWarn
		case r.Pattern == "" || r.URL.Path != "/locks" && r.PathValue("id") == "": // the console's polls, and probes
			level = slog.LevelDebug
		}
		s.log.Log(r.Context(), level, "request", "route", cmp.Or(r.Pattern, "none"), "method", r.Method, "user", r.PathValue("id"), "status", answered.status, "took", time.Since(began).Round(time.Microsecond))
	})
}

// job is an example of a background job: it repeatedly locks a user's metadata for a while, so
// that the console has something to show.
func (s *service) job(ctx context.Context) {
	for ctx.Err() == nil {
		err := lock.Do(ctx, s.locker, s.store.Key("cal"), func(ctx context.Context) error {
			_, err := s.store.Merge(ctx, "cal", []byte(`{"report":"running"}`))
			sleep(ctx, 20*time.Second)
			return err
		})
		if err != nil && ctx.Err() == nil {
			s.log.Warn("the job was ended", "error", err)
		}
		sleep(ctx, 10*time.Second)
	}
}

// sleep waits for d. It returns false if ctx ended before that.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
