// Lockctl shows what is going on in a database that lockstore is used with, and frees
// what is stuck.
//
//	export LOCKSTORE_DSN=postgres://…              # or PGHOST, PGUSER, PGPASSFILE and their kin
//	go run ./examples/lockctl locks -watch         # what is held and waited for, by whom
//	go run ./examples/lockctl who user/42          # one key; exit status 3 if it is free
//	go run ./examples/lockctl evict -grace 5s user/42
//	go run ./examples/lockctl check                # what should be set otherwise; exit status 3 if anything
//	go run ./examples/lockctl docs get ann
//	go run ./examples/lockctl docs watch ann       # a line for each state; null while there is no document
//	echo '{"plan":"pro"}' | go run ./examples/lockctl docs merge ann
//	go run ./examples/lockctl migrate print        # or up, or down
//	go run ./examples/lockctl db                   # a server to develop with; prints its URL
//
// On a terminal it prints tables; into a pipe, fields that are separated by tabs,
// without a header. A KEY is its parts joined by slashes, #N for the number of one, or a
// document's id with -doc.
//
// A -dsn with a password is refused, as everybody on the machine can read it: the
// environment, a file (-dsn-file) or libpq's passfile are for that.
//
// It exits with 0; with 1 if it failed; with 2 if it was called wrongly; with 3 if the
// answer is no: there are findings, the key is free, there is no such document.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program as usual
	c := &call{stdin: os.Stdin, stdout: os.Stdout, stderr: os.Stderr, env: os.Getenv, terminal: isTerminal(os.Stdout)}
	os.Exit(c.run(ctx, os.Args[1:]))
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// A call is one run of the program.
type call struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	env            func(string) string
	terminal       bool // stdout is one

	target
	json      bool
	namespace string
	log       *slog.Logger // the store's; nil: none
	flags     *flag.FlagSet
}

// A command is what the program can be asked for. define adds its flags, and returns what
// runs it with its arguments.
type command struct {
	name, args, about string
	define            func(*call) func(context.Context, []string) error
}

var commands = []command{
	{"locks", "", "list what is held and waited for", (*call).locks},
	{"who", "KEY", "tell who holds a key, and who waits for it", (*call).who},
	{"evict", "KEY", "free a key: ask its holder, then end the session", (*call).evict},
	{"check", "", "compare server, role and table with what is needed", (*call).check},
	{"docs get", "ID", "print a document", (*call).docsGet},
	{"docs watch", "ID", "print a document, and each later state of it, until interrupted", (*call).docsWatch},
	{"docs merge", "ID [PATCH]", "merge a patch, or what stdin has, and print the document", (*call).docsMerge},
	{"migrate up", "", "create what the store needs", (*call).migrateUp},
	{"migrate down", "", "drop it, with all documents of the default table", (*call).migrateDown},
	{"migrate print", "", "print the SQL", (*call).migratePrint},
	{"db", "", "keep a PostgreSQL server until interrupted, and print its URL", (*call).db},
}

var (
	errNo    = errors.New("no") // which has been said already
	errUsage = errors.New("usage")
)

func wrong(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errUsage, fmt.Sprintf(format, args...))
}

// run is the program, from its arguments to its exit status.
func (c *call) run(ctx context.Context, args []string) int {
	err := c.do(ctx, args)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errNo), errors.Is(err, metadata.ErrNotFound):
		if err != errNo {
			fmt.Fprintln(c.stderr, "lockctl:", err)
		}
		return 3
	case errors.Is(err, errUsage):
		fmt.Fprintf(c.stderr, "lockctl: %s\nTry: lockctl -help\n", strings.TrimPrefix(err.Error(), "usage: "))
		return 2
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return 1 // whoever interrupted it knows
	}
	fmt.Fprintln(c.stderr, "lockctl:", err)
	return 1
}

func (c *call) do(ctx context.Context, args []string) error {
	if len(args) == 0 || slices.Contains([]string{"-h", "-help", "--help", "help"}, args[0]) {
		c.usage()
		if len(args) == 0 {
			return wrong("no command")
		}
		return nil
	}
	for _, cmd := range commands {
		words := strings.Fields(cmd.name)
		if len(args) < len(words) || !slices.Equal(args[:len(words)], words) {
			continue
		}
		c.flags = flag.NewFlagSet("lockctl "+cmd.name, flag.ContinueOnError)
		c.flags.SetOutput(io.Discard) // errors are reported once, by run
		run := cmd.define(c)
		c.flags.Usage = func() {
			fmt.Fprintf(c.stderr, "Usage: lockctl %s [flags] %s\n", cmd.name, cmd.args)
			c.flags.SetOutput(c.stderr)
			c.flags.PrintDefaults()
		}
		if err := c.flags.Parse(args[len(words):]); errors.Is(err, flag.ErrHelp) {
			return err
		} else if err != nil {
			return wrong("%s", err)
		}
		if n := len(strings.Fields(cmd.args)); c.flags.NArg() > n || n > 0 && c.flags.NArg() == 0 {
			return wrong("%s takes %s, after its flags", cmd.name, cmp.Or(cmd.args, "no arguments"))
		}
		return run(ctx, c.flags.Args())
	}
	return wrong("no command %.40q", strings.Join(args[:min(2, len(args))], " "))
}

func (c *call) usage() {
	fmt.Fprintln(c.stderr, "Usage: lockctl COMMAND [flags] [arguments]; lockctl COMMAND -help tells its flags")
	for _, cmd := range commands {
		fmt.Fprintf(c.stderr, "  %-24s %s\n", strings.TrimSpace(cmd.name+" "+cmd.args), cmd.about)
	}
	fmt.Fprintln(c.stderr, "The database is that of LOCKSTORE_DSN, of -dsn-file, or of libpq's variables (PGHOST, PGPASSFILE, …).")
}

// key is what an argument names.
func (c *call) key(arg string, doc bool) (lock.Key, error) {
	if doc {
		store, err := c.openStore(nil)
		if err != nil {
			return lock.Key{}, err
		}
		return store.Key(arg), store.Key(arg).Err()
	}
	if number, ok := strings.CutPrefix(arg, "#"); ok {
		var id int64
		if _, err := fmt.Sscanf(number+"\n", "%d\n", &id); err != nil {
			return lock.Key{}, wrong("%.40q is no key's number", arg)
		}
		return lock.ID(id), nil
	}
	key := lock.Namespace(c.namespace).Name(strings.Split(arg, "/")...)
	return key, key.Err()
}
