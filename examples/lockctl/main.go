// Lockctl shows and frees the locks of a database, checks its configuration, and reads and
// changes documents.
//
//	export LOCKSTORE_DSN=postgres://…              # or PGHOST, PGUSER, PGPASSFILE, …
//	go run ./examples/lockctl locks -watch         # all keys with their holders and waiters
//	go run ./examples/lockctl who user/42          # one key; exit status 3 if it is free
//	go run ./examples/lockctl evict -grace 5s user/42
//	go run ./examples/lockctl check                # problems of the configuration; exit status 3 if any
//	go run ./examples/lockctl docs get ann
//	go run ./examples/lockctl docs watch ann       # a line for each state; null while there is no document
//	echo '{"plan":"pro"}' | go run ./examples/lockctl docs merge ann
//	go run ./examples/lockctl migrate print        # or up, or down
//	go run ./examples/lockctl db                   # a server to develop with; prints its URL
//
// On a terminal it prints tables. Otherwise it prints fields that are separated by tabs,
// without a header. A KEY is a key's parts joined by slashes, or #N for a key's number, or,
// with -doc, a document's id.
//
// A -dsn with a password is refused, because all users of the machine can read it. Use the
// environment, a file (-dsn-file) or libpq's passfile.
//
// The exit status is 0 for success, 1 for a failure, 2 for wrong arguments, and 3 if the
// answer is no: check has findings, the key is free, or the document does not exist.
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

	"github.com/jackc/pgx/v5/pgxpool"

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
	terminal       bool // stdout is a terminal

	target
	json      bool
	namespace string
	log       *slog.Logger // for the store; nil: none
	flags     *flag.FlagSet
}

// A command is a command of the program. define adds its flags and returns the function that
// runs it with its arguments.
type command struct {
	name, args, about string
	define            func(*call) func(context.Context, []string) error
}

var commands = []command{
	{"locks", "", "list the keys that are held or waited for", (*call).locks},
	{"who", "KEY", "show the holders and waiters of a key", (*call).who},
	{"evict", "KEY", "free a key: ask its holder, then end the session", (*call).evict},
	{"check", "", "check the configuration of server, role and table", (*call).check},
	{"docs get", "ID", "print a document", (*call).docsGet},
	{"docs watch", "ID", "print a document, and each later state of it, until interrupted", (*call).docsWatch},
	{"docs merge", "ID [PATCH]", "merge a patch (default: from stdin), and print the document", (*call).docsMerge},
	{"migrate up", "", "create what the store needs", (*call).migrateUp},
	{"migrate down", "", "drop it, with all documents of the default table", (*call).migrateDown},
	{"migrate print", "", "print the SQL", (*call).migratePrint},
	{"db", "", "run a PostgreSQL server until interrupted, and print its URL", (*call).db},
}

// errNo means that the answer is no, which has been printed.
var errNo = errors.New("no")

// A usageError says what is wrong with the arguments.
type usageError string

func (e usageError) Error() string { return string(e) }

func wrong(format string, args ...any) error { return usageError(fmt.Sprintf(format, args...)) }

// run runs the program with its arguments and returns the exit status.
func (c *call) run(ctx context.Context, args []string) int {
	err := c.do(ctx, args)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return 0
	case errors.Is(err, errNo):
		return 3
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return 1 // interrupted: no message is needed
	}
	fmt.Fprintln(c.stderr, "lockctl:", err)
	switch {
	case errors.Is(err, metadata.ErrNotFound):
		return 3
	case errors.As(err, new(usageError)):
		fmt.Fprintln(c.stderr, "Try: lockctl -help")
		return 2
	}
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
	fmt.Fprintln(c.stderr, "Usage: lockctl COMMAND [flags] [arguments]; lockctl COMMAND -help lists its flags")
	for _, cmd := range commands {
		fmt.Fprintf(c.stderr, "  %-24s %s\n", strings.TrimSpace(cmd.name+" "+cmd.args), cmd.about)
	}
	fmt.Fprintln(c.stderr, "The database is that of -dsn or -dsn-file, of LOCKSTORE_DSN, or of libpq's variables (PGHOST, PGPASSFILE, …).")
}

// key returns the key that an argument names. Nothing is sent to the server.
func (c *call) key(ctx context.Context, arg string, doc bool) (key lock.Key, err error) {
	if doc {
		err := c.withStore(ctx, func(_ context.Context, _ *pgxpool.Pool, s *metadata.Postgres) error {
			key = s.Key(arg)
			return key.Err()
		})
		return key, err
	}
	if number, ok := strings.CutPrefix(arg, "#"); ok {
		var id int64
		if _, err := fmt.Sscanf(number+"\n", "%d\n", &id); err != nil {
			return lock.Key{}, wrong("%.40q is no key's number", arg)
		}
		return lock.ID(id), nil
	}
	key = lock.Namespace(c.namespace).Name(strings.Split(arg, "/")...)
	return key, key.Err()
}
