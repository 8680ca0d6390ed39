package metadata

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/lockstore/backoff"
	"example.com/lockstore/lock"
)

// Options configure a [Postgres] or a [Memory]. The zero value, and nil, mean the defaults. A
// negative number is refused with [ErrInvalidOptions].
type Options struct {
	// Table says where the documents are. The zero Table is the default table, which
	// [Postgres.Migrate] creates.
	Table Table

	// Namespace separates the lock keys of several applications.
	Namespace lock.Namespace

	// Backoff says how often a writer tries whether the document's lock, or its row, is free
	// again. It starts with each writer's own call. When it gives up, the writer fails with
	// [lock.ErrBusy]. nil: [backoff.Default].
	Backoff backoff.Policy

	// LockStatus returns who holds a document's lock. It is called when a write fails
	// because the lock is busy, and has up to a second; the answer is in the
	// [lock.BusyError]. The method Status of a [lock.Postgres] is one. nil: not called.
	LockStatus func(context.Context, lock.Key) (lock.Status, error)

	// Timeout limits each statement of a write once it has been sent: a caller whose context
	// ends meanwhile still gets the outcome, at most that much later.
	//
	// Half of it limits the time between two statements of a transaction, and so the decide
	// of an Update: a process that is stopped or cut off keeps a document no longer.
	//
	// It also limits how long a statement waits in the server for a row that others have
	// locked. A write whose context has not ended then tries again, as Backoff says.
	//
	// 0: 10 s.
	Timeout time.Duration

	// MaxPatchBytes and MaxDepth limit patches, and documents to store. As PostgreSQL prints
	// them (with spaces, and exponents expanded) they may have twice as many bytes. 0: 1 MiB
	// and 64 levels.
	MaxPatchBytes int
	MaxDepth      int

	// MaxDocumentBytes limits documents as PostgreSQL prints them, which is the length of
	// [Document].Metadata. A write that would make a document larger than that, and larger
	// than it was, is refused with a [*DocumentSizeError]. 0: 16 MiB.
	MaxDocumentBytes int

	// MaxWaitingBytes limits the patches, as PostgreSQL prints them, that wait in this store
	// while another write of the same document is under way. A write that would exceed it
	// fails with [lock.ErrBusy] at once. A document that no other write is changing or waiting
	// for takes a write of any size. 0: 64 MiB.
	MaxWaitingBytes int

	// MaxBatch and MaxBatchBytes limit how many writes share a commit, and how large their
	// answers are together; the other writes wait for the next commit. (At most 64 writes of
	// different documents share one; there MaxBatchBytes limits the patches.) A table whose
	// constraints or triggers must see each patch by itself needs a MaxBatch of 1, and so does
	// an Update whose decide must not run again. 0: 1024 and 8 MiB.
	MaxBatch      int
	MaxBatchBytes int

	// Protect names top-level keys that only [Postgres.Privileged] may change.
	Protect []string

	// MergeInGo makes the store do without the merge function in the database, for hosts that
	// may not create one. A merge then takes two round trips instead of one.
	MergeInGo bool

	// Principal returns for whom a write, a Get or a Watch is made, as far as the database treats
	// callers differently: a tenant or a user, for example. Only writes for the same principal
	// share a commit or a connection, and only Gets, or Watches, for the same principal share
	// a statement. It is called once at most for each, at its beginning, on its caller's
	// goroutine, and concurrently. nil: all callers are the same, unless the pool has a
	// PrepareConn or BeforeAcquire; then nothing is shared. See Security in the package
	// documentation. A [Memory] does not call it.
	Principal func(context.Context) string

	// WatchInterval is how often watched documents are compared with what their watchers know,
	// to find changes without a hint: see [Postgres.Watch]. If a comparison of many documents
	// takes the server longer than a hundredth of that, it is made less often, down to a tenth
	// as often. A [Memory] compares nothing. 0: 1 s.
	WatchInterval time.Duration

	// Connect opens the connection for hints, which carry changes to watchers in other
	// processes: see [Postgres.Watch]. It must lead to the same server and database, and past
	// a pooler in transaction mode. [lock.ConnectTo] returns one for a URL. nil: the
	// connection is opened like those of the pool, but outside of it; that takes a pool of
	// pgx's connections.
	Connect func(context.Context) (*pgx.Conn, error)

	// NoHints keeps the store from sending and receiving hints, and so from having a
	// connection for them. Comparisons then find the changes.
	NoHints bool

	// KeepTokens is how long the tokens of [Postgres.Once] are kept, at least. It should be
	// the same for all stores with the same Table.Tokens, as each removes tokens that are
	// older than its own KeepTokens. 0: 7 days.
	KeepTokens time.Duration

	// Observers are called for operations and commits, for metrics and traces.
	Observers []Observer

	// Logger receives what an operator should look into: unknown outcomes, transactions that
	// could not be rolled back, what keeps a Watch waiting, and why there is no connection for
	// its hints. nil: no logs.
	Logger *slog.Logger

	keyParts  []string // of Table
	observers observers
}

// withDefaults returns a copy that is complete and valid.
func (o *Options) withDefaults() (Options, error) {
	var full Options
	if o != nil {
		full = *o
	}
	for name, n := range map[string]int64{
		"Timeout": int64(full.Timeout), "KeepTokens": int64(full.KeepTokens), "WatchInterval": int64(full.WatchInterval), "MaxPatchBytes": int64(full.MaxPatchBytes), "MaxDepth": int64(full.MaxDepth),
		"MaxDocumentBytes": int64(full.MaxDocumentBytes), "MaxWaitingBytes": int64(full.MaxWaitingBytes),
		"MaxBatch": int64(full.MaxBatch), "MaxBatchBytes": int64(full.MaxBatchBytes),
	} {
		if n < 0 {
			return full, fmt.Errorf("%w: negative %s", ErrInvalidOptions, name)
		}
	}
	full.Timeout = cmp.Or(full.Timeout, 10*time.Second)
	full.WatchInterval = cmp.Or(full.WatchInterval, time.Second)
	full.KeepTokens = cmp.Or(full.KeepTokens, 7*24*time.Hour)
	full.MaxPatchBytes = cmp.Or(full.MaxPatchBytes, 1<<20)
	full.MaxDepth = cmp.Or(full.MaxDepth, 64)
	full.MaxDocumentBytes = cmp.Or(full.MaxDocumentBytes, 16<<20)
	full.MaxWaitingBytes = cmp.Or(full.MaxWaitingBytes, 64<<20)
	full.MaxBatch = cmp.Or(full.MaxBatch, 1024)
	full.MaxBatchBytes = cmp.Or(full.MaxBatchBytes, 8<<20)
	if full.Logger == nil {
		full.Logger = slog.New(slog.DiscardHandler)
	}
	full.Protect = slices.Clone(full.Protect)
	var err error
	if full.observers, err = newObservers(full.Observers); err != nil {
		return full, err
	}
	full.Table, err = full.Table.withDefaults()
	full.keyParts = full.Table.keyParts()
	if err == nil && full.key(strings.Repeat("9", full.Table.IDType.maxLen())).Err() != nil {
		err = fmt.Errorf("%w: the names of the table and its scopes leave no room for ids in a lock's key", ErrInvalidOptions)
	}
	return full, err
}

// key is the lock's key of a document whose id is canonical.
func (o *Options) key(id string) lock.Key {
	return o.Namespace.Name(append(o.keyParts, id)...)
}

// isDocument reports whether a key is that of a document of the table.
func (o *Options) isDocument(k lock.Key) bool {
	name := k.String()
	if unquoted, err := strconv.Unquote(name); err == nil {
		name = unquoted
	}
	id, ok := strings.CutPrefix(name, strings.Join(o.keyParts, "/")+"/")
	return ok && o.key(id) == k
}
