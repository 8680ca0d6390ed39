package lock

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/lockstore/backoff"
)

// PostgresOptions configure a [Postgres]. The zero value, and nil, mean the
// defaults.
type PostgresOptions struct {
	// Connect makes each connection of the Locker, to the database of the host's pool,
	// where the host's way is no good for that: its pool leads through a connection
	// pooler, or its driver does not show a connection of pgx's (see [NewPostgres]).
	// What it returns is the Locker's from then on. It is called for every connection,
	// by several goroutines at once, with a context that ends after ConnectTimeout and
	// when the Locker is closed. [ConnectTo] is one for a URL.
	// Default: the host's way.
	Connect func(ctx context.Context) (*pgx.Conn, error)

	// Backoff says when a key that another process holds is asked for again.
	// When it gives up, so does Lock, with a [*BusyError] that matches
	// [backoff.ErrExhausted]. Default: [backoff.Default].
	Backoff backoff.Policy

	// HandOff is how long a key is handed from holder to holder within this
	// process before other processes get their turn. Where one is known to
	// want the key, it is handed on 20 times at most. Sharers that come later
	// than that to others of this process share the key if nobody in another
	// one wants it alone, which the server is asked. Default: 50 ms.
	HandOff time.Duration

	// Parking bounds the additional connections on which a key that another
	// process keeps busy is waited for in the server's own queue, so that busy
	// processes take turns. They are opened when needed, and closed after
	// half a minute without use. Where the role cannot use PL/pgSQL, by which
	// the server's log is kept silent, there are none. Without any, sharers in
	// another process that overlap without end can keep a key from who wants it
	// alone. Negative: none. Default: 2.
	Parking int

	// MaxKeys bounds the keys that are held or wanted here at a time, since a
	// full lock table of the server (max_locks_per_transaction ×
	// max_connections) fails every client. Beyond it, [ErrTooMany].
	// Default: 1 000.
	MaxKeys int

	// Silence is how long the server may leave a ping unanswered before the
	// connection, and with it every lock, counts as lost. It is pinged when it has
	// not been heard for a third of that. The server is told to wait for twice as
	// long before it gives the locks to others; over a unix socket it needs no such
	// telling. Default: 5 s.
	Silence time.Duration

	// ConnectTimeout bounds each attempt to connect. Where there are several hosts, or
	// addresses of one, each has a share of it, and one that is silent holds up none of
	// the others. Over database/sql they are tried one after the other, and it is the host
	// that gives each a share, by connect_timeout. Default: 10 s.
	ConnectTimeout time.Duration

	// SessionPooler accepts a connection pooler between this process and the
	// server. It must be in session mode: in transaction mode locks are
	// stranded on sessions that belong to others.
	SessionPooler bool

	// DescribeBusy has every [*BusyError] say who holds the key, for which the
	// server is asked on a connection of the host's pool, for up to a second; after a
	// wait of a second so are the processes, as by Status. Where this is not set, that is done
	// after such a wait of a process that itself holds keys, of one call at a time,
	// for up to a quarter of a second.
	DescribeBusy bool

	// Observers are told of locks, holds, connections and batches. Default: nobody is.
	Observers []Observer

	// Logger is told of lost and restored connections, and of locks that were
	// dropped without Unlock. Default: silence.
	Logger *slog.Logger
}

func (o *PostgresOptions) withDefaults() PostgresOptions {
	var d PostgresOptions
	if o != nil {
		d = *o
	}
	if d.Backoff == nil {
		d.Backoff = backoff.Default()
	}
	if d.HandOff <= 0 {
		d.HandOff = 50 * time.Millisecond
	}
	if d.Parking == 0 {
		d.Parking = 2
	}
	if d.MaxKeys <= 0 {
		d.MaxKeys = 1000
	}
	if d.Silence <= 0 {
		d.Silence = 5 * time.Second
	}
	if d.ConnectTimeout <= 0 {
		d.ConnectTimeout = 10 * time.Second
	}
	if d.Logger == nil {
		d.Logger = slog.New(slog.DiscardHandler)
	}
	return d
}
