package metadata

import (
	"context"
	"encoding/json"
	"time"
)

// MetadataStore keeps one JSON document for each id. It is what a host
// programs against, and fakes with a [Memory]. All methods are safe for
// concurrent use.
//
// Implementations: [Postgres] and [Memory]. One of your own can be checked by
// the suite in package storetest.
type MetadataStore interface {
	// Get returns the document as it is now, or [ErrNotFound]. It does not
	// wait for anybody who holds the document's lock. With a context that carries
	// this lock it returns only what was read where the lock is held, and otherwise
	// what the server that the connection leads to has: a standby may lag behind. See
	// [AtLeast].
	Get(ctx context.Context, id string) (Document, error)

	// Merge applies a JSON merge patch (RFC 7396) and returns the document
	// after this patch. Members of the patch replace those of the document,
	// null removes, objects are merged in depth, arrays are replaced whole.
	// The patch must be an object. One that changes nothing writes nothing. The
	// caller may use its bytes again when Merge has returned.
	//
	// A nil error means that the patch is in the document for good, exactly
	// once; any other, that it was not applied, unless the error matches
	// [ErrUnknownOutcome]. Merge waits for those who hold the document's lock
	// until ctx ends.
	Merge(ctx context.Context, id string, patch json.RawMessage) (Document, error)

	// Update reads the document, has decide, which can run several times, make a
	// patch of it, and applies that as Merge does, to just what decide was given. An
	// error of decide is returned as it is, and nothing is changed; a nil patch
	// changes nothing either.
	//
	// decide runs on the caller's goroutine, while others wait and a connection is
	// taken: it should be quick, do without the same pool, and must not write the same
	// document by itself. What it is given can be what writes before it in the same
	// commit have made. It runs again, on the document as it is then, and only its last
	// run counts, where
	//
	//   - those writes fail, or the commit cannot be made and the document has changed;
	//   - it takes longer than others in the process wait for it, which is 20 ms;
	//   - or, if it is the first of its commit, as it is then, 250 ms and twice as long
	//     each time, and the document has changed meanwhile. They go on as soon as it is
	//     late.
	//
	// While nobody else in the process waits, a [Postgres] keeps the document for half
	// of [Options].Timeout; what takes longer fails.
	//
	// In a host's transaction ([Postgres.In]), and with an [Options].MaxBatch of 1, decide
	// runs at most once. Where others insert the document without the lock meanwhile,
	// Update then fails with [lock.ErrBusy].
	Update(ctx context.Context, id string, decide func(Document) (json.RawMessage, error)) (Document, error)
}

// Document is one document as it was at one moment.
type Document struct {
	ID       string          // as the column prints it: a UUID in lower case, say
	Metadata json.RawMessage // as PostgreSQL prints a jsonb; the caller owns it

	// Version counts the changes since the document was created: the patch
	// that led to version n was applied to version n-1. It is 0 where the
	// table has no such column.
	Version int64

	// UpdatedAt is when the server made the last change. It is zero where the
	// table has no such column, and where the host has put infinity into it.
	UpdatedAt time.Time

	// Repeated says that a write of [Postgres.Once] had been made before, and Made which
	// version it made then: 0 where it was a Delete. Otherwise both are zero.
	Repeated bool
	Made     int64
}
