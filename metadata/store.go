package metadata

import (
	"context"
	"encoding/json"
	"time"
)

// MetadataStore stores one JSON document for each id. Code that is to be tested without a
// database takes a MetadataStore, and its tests pass a [Memory].
//
// Implementations are [Postgres], [Memory] and [Tx]. All methods are safe for concurrent use,
// except those of a Tx, which is for one goroutine. Package storetest has a conformance suite
// for others.
type MetadataStore interface {
	// Get returns the current document, or [ErrNotFound]. It does not wait for the
	// document's lock.
	//
	// With a context that carries a hold of that lock it returns only what was read where
	// the lock is held. Otherwise it returns what the connection's server has, and a
	// standby may lag behind: see [AtLeast].
	Get(ctx context.Context, id string) (Document, error)

	// Merge applies a JSON merge patch (RFC 7396) to the document, and returns the document
	// after this patch. Members of the patch replace those of the document, null removes
	// them, objects are merged in depth, and arrays are replaced whole. The patch must be an
	// object. A patch that changes nothing writes nothing. The caller may reuse the bytes of
	// patch after Merge has returned.
	//
	// A nil error means that the patch is in the document for good, exactly once; of a [Tx], if
	// the host commits. Any other error means that it was not applied, unless it matches
	// [ErrUnknownOutcome].
	//
	// While others hold the document's lock, Merge waits until ctx ends or [Options].Backoff (of
	// a Memory: its Locker) gives up, and then fails with [lock.ErrBusy].
	Merge(ctx context.Context, id string, patch json.RawMessage) (Document, error)

	// Update reads the document, calls decide to make a patch from it, and applies the patch
	// as Merge does, to exactly the document that decide was given. If decide returns an
	// error, Update changes nothing, and its error wraps that one and names the document. A
	// nil patch changes nothing either.
	//
	// decide can run several times, and only its last run counts. It runs on the caller's
	// goroutine, while other writers wait and a connection is in use. So it should be quick
	// and not use the same pool, and it must not write the same document. The document that
	// it is given can include writes before it in the same commit. It runs again, on the
	// document as it is then, if
	//
	//   - a write before it in the commit fails, or the commit cannot be made (a decide that is
	//     the first of its commit runs again only if the document has changed);
	//   - it takes longer than 20 ms, for which other writers of the process wait for it;
	//   - it is the first of its commit, takes longer than 250 ms while others wait, and the
	//     document has changed meanwhile. A decide that was slow is the first of its next
	//     commit, and has 250 ms there, and twice as long each further time, up to a quarter of
	//     [Options].Timeout.
	//
	// The other writers go on as soon as decide takes too long. While no other in the process
	// waits, a [Postgres] keeps the document for half of [Options].Timeout; a decide that
	// takes longer fails, if the document was locked for it.
	//
	// In a host's transaction ([Postgres.In]), and with an [Options].MaxBatch of 1, decide
	// runs at most once. If others insert the document without the lock meanwhile, Update
	// then fails with [lock.ErrBusy].
	Update(ctx context.Context, id string, decide func(Document) (json.RawMessage, error)) (Document, error)
}

// Document is the state of a document at one moment.
type Document struct {
	ID       string          // as PostgreSQL prints the column: a UUID in lower case, for example
	Metadata json.RawMessage // as PostgreSQL prints a jsonb; the caller owns it

	// Version counts the changes since the document was created: the patch that led to
	// version n was applied to version n-1. It is 0 if the table has no such column.
	Version int64

	// UpdatedAt is when the server made the last change. It is zero if the table has no such
	// column, and if the host has put infinity into it.
	UpdatedAt time.Time

	// Repeated reports that a write of [Postgres.Once] had been made before. Made is then the
	// version that it made, or 0 if it was a Delete or the table has no versions. Otherwise both
	// are zero.
	Repeated bool
	Made     int64
}
