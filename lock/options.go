package lock

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/lockstore/backoff"
)

// PostgresOptions configures a [Postgres]. The zero value, and nil, mean the defaults.
type PostgresOptions struct {
	// Connect opens each connection of the Locker, in place of the host's way of connecting.
	// Set it if the host's pool leads through a connection pooler, or if its driver does not
	// give access to a connection of pgx's (see [NewPostgres]). It must connect to the
	// database of the host's pool. The connection belongs to the Locker from then on.
	//
	// It is called by several goroutines at once, with a context that ends after
	// ConnectTimeout and when the Locker is closed. [ConnectTo] returns one for a URL.
	// Default: connect as the host does.
	Connect func(ctx context.Context) (*pgx.Conn, error)

	// Backoff decides when to ask again for a key that another process holds. When it gives
	// up, so does Lock, with a [*BusyError] that matches [backoff.ErrExhausted]. Default:
	// [backoff.Default].
	Backoff backoff.Policy

	// HandOff limits how long a key is handed from holder to holder within this process before
	// other processes get a chance. If another process is known to want the key, it is also
	// handed off 20 times at most.
	// Callers of RLock join the shared holders of this process for that time without asking the
	// server; later ones join them only if the server confirms that no other process wants the
	// key exclusively. Default: 50 ms.
	HandOff time.Duration

	// WaitConns is the maximum number of extra connections used to queue at the server for keys
	// that other processes keep busy, so that busy processes take turns.
	//
	// They are opened when needed, and closed after half a minute without use. A role that
	// cannot use PL/pgSQL has none: it is what keeps these waits out of the server's log.
	// Without any, shared holders of other processes that overlap can keep a key from an
	// exclusive waiter forever. Negative: none. Default: 2.
	WaitConns int

	// MaxKeys is the maximum number of keys held or waited for here at a time, among them all
	// permits of a semaphore that a caller waits for. Beyond it, the error matches
	// [ErrTooMany]. It protects the server's lock table (max_locks_per_transaction ×
	// max_connections): when that is full, every client fails. Default: 1 000.
	MaxKeys int

	// Silence is how long the server may leave a ping unanswered before the connection, and
	// with it every lock, counts as lost. A ping is sent when nothing has come from the server
	// for a third of that. The server, for its part, is told to end the session of a client that
	// it no longer hears, which frees its locks, but only after twice this time; over a unix
	// socket it does not need to be told. Default: 5 s.
	Silence time.Duration

	// ConnectTimeout bounds each attempt to connect. Several hosts, or addresses of one, share
	// it, and a silent one does not hold up the others. Over database/sql they are tried one
	// after the other, and the host's connect_timeout gives each its share. Default: 10 s.
	ConnectTimeout time.Duration

	// SessionPooler accepts a connection pooler between this process and the server. The
	// pooler must be in session mode: in transaction mode it would strand locks on sessions
	// that belong to other clients.
	SessionPooler bool

	// DescribeBusy makes every [*BusyError] of Lock, TryLock, RLock, TryRLock and LockAll name
	// the holders of the key. For that the call asks the server, on a connection of the host's
	// pool, and takes up to a second longer. A call that has waited for a second or more asks
	// the other processes too, as Status does.
	//
	// If it is false, a call names the holders only if it has waited for a second or more, this
	// process holds keys itself (so that the wait may be a deadlock), and no other call is
	// asking. That takes up to a quarter of a second longer.
	DescribeBusy bool

	// Observers are notified of locks, holds, connections and batches. Default: none.
	Observers []Observer

	// Logger gets a record when a connection is lost, is restored or cannot be opened to wait
	// on, when a lock is evicted or dropped without Unlock, and when an Observer panics.
	// Default: no logging.
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
	if d.WaitConns == 0 {
		d.WaitConns = 2
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
