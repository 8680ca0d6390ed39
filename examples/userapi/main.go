// Userapi is a small service around lockstore: the metadata of users, over HTTP, and a
// console that shows who holds what.
//
//	go run ./examples/userapi                       # on a database of its own
//	curl localhost:8080/users/ann/metadata
//	curl -X PATCH -H 'Content-Type: application/merge-patch+json' -d '{"plan":"pro"}' localhost:8080/users/ann/metadata
//	curl -N 'localhost:8080/users/ann/metadata?watch'
//	open http://localhost:8080/locks
//
// A PATCH or DELETE with an Idempotency-Key is made once: the same again, within a week,
// changes nothing, and is answered with the metadata as they are by then, and with
// Idempotency-Replayed: true. With the key of another request for the user it is refused
// (422). What was refused has left no key, and can be tried again.
//
// GET with ?watch, or with Accept: text/event-stream, as a browser's EventSource has it,
// is a stream of events: the metadata as they are, and then each later state that the
// client can take in, with its version as the id. A user who is gone is an event "deleted",
// without one. A client that comes back with Last-Event-ID is not told again what it has.
// After an hour, and when the service ends, so does the stream, and the client asks again.
//
// With LOCKSTORE_DSN it uses that database, in which -migrate creates what it needs. The
// console is for whoever has the token in the file of -token-file, as a Bearer token or
// as the password of any user; without one, for requests from this machine alone.
//
// To see how the library is wired in, read service.go first, then api.go, once.go, watch.go and problem.go.
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

// config is what the service can be told.
type config struct {
	addr    string
	migrate bool
	demo    bool          // on a database of its own
	token   string        // of the console; empty: loopback only
	wait    time.Duration // for a document that others hold
	timeout time.Duration // of a request
	drain   time.Duration // from not being ready to the end of listening
	grace   time.Duration // for requests under way, at the end

	heartbeat time.Duration // between comments that keep a watch's connection open
	maxWatch  time.Duration // how long a watch lasts, after which the client asks again

	maxBody            int // bytes of a patch
	maxTotal, maxUsers int // requests under way: in all, and of one user; and watches, apart from them
}

var defaults = config{addr: "localhost:8080", wait: 2 * time.Second, timeout: 10 * time.Second, grace: 20 * time.Second, heartbeat: 15 * time.Second, maxWatch: time.Hour, maxBody: 256 << 10, maxTotal: 1000, maxUsers: 256}

// run serves until ctx ends.
func run(ctx context.Context, args []string, dsn string, stderr io.Writer) (err error) {
	c := defaults
	flags := flag.NewFlagSet("userapi", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&c.addr, "addr", c.addr, "where to listen")
	flags.BoolVar(&c.migrate, "migrate", false, "create what is missing in the database")
	tokenFile := flags.String("token-file", "", "a `file` with the console's token")
	flags.DurationVar(&c.wait, "wait", c.wait, "how long a write waits for a document that others hold")
	flags.DurationVar(&c.timeout, "timeout", c.timeout, "how long a request may take")
	flags.DurationVar(&c.drain, "drain", c.drain, "how long to go on listening when ended, for a load balancer to notice")
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
	log.Info("listening", "users", "http://"+listener.Addr().String()+"/users/ann/metadata", "console", "http://"+listener.Addr().String()+"/locks")
	return s.serve(ctx, listener)
}
