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

// Options configure a [Postgres]. The zero value means the defaults; so does
// a nil pointer.
type Options struct {
	// Table is where the documents are. The zero Table is the default table,
	// which [Postgres.Migrate] creates.
	Table Table

	// Namespace keeps the lock keys of several applications apart.
	Namespace lock.Namespace

	// Backoff says how often a writer looks whether the document's lock, or its
	// row, is free again. Each writer has it from its own call on. nil:
	// [backoff.Default]. Where it gives up, the writer fails with [lock.ErrBusy].
	Backoff backoff.Policy

	// DescribeBusy is asked who holds a document's lock when a write fails as it
	// is busy, for up to a second, and the answer is in the [lock.BusyError]:
	// the method Status of a [lock.Postgres], say. nil: nobody is asked.
	DescribeBusy func(context.Context, lock.Key) (lock.Status, error)

	// Timeout bounds each statement of a write once it has been sent: a
	// caller whose context ends meanwhile still learns the outcome, at most so
	// much later. Half of it bounds the time between two statements of a
	// transaction, and so what decides in an Update: a process that is stopped
	// or cut off keeps a document no longer. It also bounds how long a statement
	// waits in the server for a row that others have locked; a write whose context
	// lives then asks again, as Backoff says. 0: 10 s.
	Timeout time.Duration

	// MaxPatchBytes and MaxDepth bound patches and documents to store. As
	// PostgreSQL prints them (with spaces, and exponents expanded) they may have
	// twice as many bytes. 0: 1 MiB and 64 levels.
	MaxPatchBytes int
	MaxDepth      int

	// MaxDocumentBytes bounds documents, as PostgreSQL prints them, which is
	// the length of [Document].Metadata. A write that would make one larger than
	// that, and larger than it was, is refused with a [*DocumentSizeError].
	// 0: 16 MiB.
	MaxDocumentBytes int

	// MaxWaitingBytes bounds the patches, as PostgreSQL prints them, that wait in
	// this store for one document, while another's commit is under way. A write
	// that comes to a longer queue fails with [lock.ErrBusy] at once; one that
	// comes to none waits whatever its size. 0: 64 MiB.
	MaxWaitingBytes int

	// MaxBatch and MaxBatchBytes bound how many writes share a commit, and how
	// large the answers to them are together, before the others have to wait for
	// the next one. (Of different documents never more than 64 share one; there
	// it is the patches that MaxBatchBytes bounds.) A table whose constraints or
	// triggers must see each patch by itself needs a MaxBatch of 1, as does an Update
	// whose decide must not run again.
	// 0: 1024 and 8 MiB.
	MaxBatch      int
	MaxBatchBytes int

	// Protect names top-level keys that only [Postgres.Privileged] may change.
	Protect []string

	// MergeInGo keeps the store from using the merge function in the database,
	// for hosts that may not create one: a merge then takes two round trips
	// and not one.
	MergeInGo bool

	// Principal says for whom a write or a Get is made, as far as the database treats
	// callers differently: a tenant or a user, say. Only writes for the same principal
	// share a commit or a connection, and only Gets for the same a statement. It is
	// asked once for each, at its beginning, on its caller's goroutine, and
	// concurrently. nil: all callers are the same,
	// unless the pool has a PrepareConn or BeforeAcquire; then nothing is shared. See
	// Security in the package documentation. A [Memory] does not ask.
	Principal func(context.Context) string

	// WatchInterval is how often the documents that are watched are compared with what
	// their watchers know, to find what nobody has hinted at: see [Postgres.Watch]. A
	// comparison of many documents that takes the server longer than a hundredth of that is
	// made less often, up to ten times. A [Memory] compares nothing. 0: 1 s.
	WatchInterval time.Duration

	// Connect opens the connection for hints, which tell watchers in other processes of
	// changes: see [Postgres.Watch]. It must lead to the same server and database,
	// and past a pooler in transaction mode. [lock.ConnectTo] is one for a URL. nil: it is
	// opened as those of the pool are, outside of it, which takes pgx's connections.
	Connect func(context.Context) (*pgx.Conn, error)

	// NoHints keeps the store from hinting at what it writes and from hearing the hints of
	// others, and so from having a connection for that: changes are found by comparison.
	NoHints bool

	// KeepTokens is for how long the tokens of [Postgres.Once] are kept, at least. The
	// same for all stores of a Table.Tokens: each removes what is older than its own. 0: 7 days.
	KeepTokens time.Duration

	// Observers are told of operations and commits. nil: nobody is.
	Observers []Observer

	// Logger is told what an operator should look into: unknown outcomes, and
	// transactions that could not be rolled back. nil: silence.
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
