// Userapi is a small HTTP service for the metadata of users, with a console that shows the
// locks.
//
//	go run ./examples/userapi                       # with a temporary database
//	curl localhost:8080/users/ann/metadata
//	curl -X PATCH -H 'Content-Type: application/merge-patch+json' -d '{"plan":"pro"}' localhost:8080/users/ann/metadata
//	curl -N 'localhost:8080/users/ann/metadata?watch'
//	open http://localhost:8080/locks
//
// A PATCH or DELETE with an Idempotency-Key is executed once. The same request again, within
// a week, changes nothing; the response has the current metadata and Idempotency-Replayed:
// true. A different request for the user with the same key is refused (422). A request that
// was refused leaves no key and can be repeated.
//
// GET with ?watch, or with Accept: text/event-stream (as from a browser's EventSource), sends
// a stream of events: the current metadata, and then each later state that the client can keep
// up with, with the version as the id. If the user is deleted, the event is "deleted" and has
// no id. A client that returns with Last-Event-ID does not get the state that it has. The
// stream ends after an hour, or with the service; the client then asks again.
//
// With LOCKSTORE_DSN it uses that database; -migrate creates what it needs there. The console
// needs the token in the file of -token-file, as a Bearer token or as the password of any
// user. Without -token-file it accepts only requests from this machine.
//
// To see how the service uses the library, read service.go first, then api.go, once.go,
// watch.go and problem.go.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"example.com/lockstore/pgtest"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program as usual
	if err := run(ctx, os.Args[1:], os.Getenv("LOCKSTORE_DSN"), os.Stderr); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "userapi:", err)
		os.Exit(1)
	}
}

// config is the configuration of the service.
type config struct {
	addr    string
	migrate bool
	demo    bool          // uses a temporary database
	token   string        // for the console; empty: only requests from this machine
	wait    time.Duration // for a document that others hold
	timeout time.Duration // of a request
	drain   time.Duration // between not ready and not listening
	grace   time.Duration // for requests in progress at the end

	heartbeat time.Duration // interval of the comments that keep a watch's connection open
	maxWatch  time.Duration // how long a watch lasts; then the client asks again

	maxBody              int // bytes of a patch
	maxTotal, maxPerUser int // concurrent requests; the same for watches
}

var defaults = config{
	addr:       "localhost:8080",
	wait:       2 * time.Second,
	timeout:    10 * time.Second,
	grace:      20 * time.Second,
	heartbeat:  15 * time.Second,
	maxWatch:   time.Hour,
	maxBody:    256 << 10,
	maxTotal:   1000,
	maxPerUser: 256,
}

// run runs the service until ctx ends.
func run(ctx context.Context, args []string, dsn string, stderr io.Writer) (err error) {
	c := defaults
	flags := flag.NewFlagSet("userapi", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&c.addr, "addr", c.addr, "the address to listen on")
	flags.BoolVar(&c.migrate, "migrate", false, "create what is missing in the database")
	tokenFile := flags.String("token-file", "", "a `file` with the console's token")
	flags.DurationVar(&c.wait, "wait", c.wait, "how long a write waits for a document that others hold")
	flags.DurationVar(&c.timeout, "timeout", c.timeout, "how long a request may take")
	flags.DurationVar(&c.drain, "drain", c.drain, "how long to keep listening after the signal to end, so that a load balancer notices")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if *tokenFile != "" {
		text, err := os.ReadFile(*tokenFile)
		if err != nil {
			return err
		}
		if c.token = strings.TrimSpace(string(text)); c.token == "" {
			return fmt.Errorf("%s is empty", *tokenFile)
		}
	}
	if dsn == "" {
		server, err := pgtest.Start(ctx)
		if err != nil {
			return err
		}
		defer server.Close()
		db, err := server.New(ctx)
		if err != nil {
			return err
		}
		dsn, c.migrate, c.demo = db.URL(), true, true
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	s, err := open(ctx, dsn, c, log)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", c.addr)
	if err != nil {
		s.close()
		return err
	}
	base := "http://" + listener.Addr().String()
	log.Info("listening", "users", base+"/users/ann/metadata", "console", base+"/locks")
	return s.serve(ctx, listener)
}
