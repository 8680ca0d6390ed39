package metadata

import (
	"errors"
	"fmt"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata/internal/jsonb"
)

// Errors returned by stores, for errors.Is. They carry the document's id, keys and the names of
// database objects, but never a value of a document or patch.
//
// A few errors match several of these. The package documentation has the order in which to ask
// for them, and their HTTP statuses.
//
// A write that gives up waiting for the document's lock fails with an error that matches
// [lock.ErrBusy]. A write under a hold that has ended fails with one that matches
// [lock.ErrLost].
var (
	// ErrNotFound means that there is no document with this id.
	ErrNotFound = errors.New("metadata: not found")

	// ErrInvalidID means that the table can have no such id. Nothing was sent to the server.
	ErrInvalidID = errors.New("metadata: invalid id")

	// ErrInvalidPatch means that a patch, or a document to store, was refused before anything
	// was sent to the server. The error is a [*PatchError]. It also matches ErrMalformed or
	// ErrTooLarge if that is the reason.
	ErrInvalidPatch = errors.New("metadata: invalid patch")

	// ErrMalformed means that a patch, or a document to store, is not JSON at all.
	ErrMalformed = errors.New("metadata: malformed JSON")

	// ErrInvalidFilter means that [Postgres.Find] cannot look for what it was given. The error
	// is a [*PatchError].
	ErrInvalidFilter = errors.New("metadata: invalid filter")

	// ErrInvalidDocument means that a document is not what it should be: the target of
	// [MergePatch] is not JSON, or the document does not fit the type of [Decode].
	ErrInvalidDocument = errors.New("metadata: invalid document")

	// ErrTooLarge means that a limit, mostly one of [Options], does not allow the size of
	//
	//   - a patch, a document to store, or a value for [Postgres.Find]: the error is a
	//     [*PatchError], which also matches ErrInvalidPatch;
	//   - the document that a write would have made, even by a small patch: the error is a
	//     [*DocumentSizeError], which does not.
	ErrTooLarge = errors.New("metadata: too large")

	// ErrConflict means that the document does not have the version asked for. The error is a
	// [*VersionError].
	ErrConflict = errors.New("metadata: version conflict")

	// ErrProtected means that a write would have changed a protected key. The error is a
	// [*ProtectedError].
	ErrProtected = errors.New("metadata: protected key")

	// ErrRejected means that the database refused the data, by a constraint, a trigger or a
	// row-level security policy. The error is a [*RejectedError].
	ErrRejected = errors.New("metadata: rejected by the database")

	// ErrInvalidToken means that [Postgres.Once] was given what cannot be a token. Nothing was
	// sent to the server.
	ErrInvalidToken = errors.New("metadata: invalid token")

	// ErrTokenReused means that the token was used before, for another write of the same
	// document. The error is a [*TokenError].
	ErrTokenReused = errors.New("metadata: token reused")

	// ErrSchema means that the database lacks the table, a column or the merge function, or
	// has them otherwise than [Table] says.
	ErrSchema = errors.New("metadata: not in the database as configured")

	// ErrUnknownOutcome means that a write may or may not have been made: the connection
	// broke, or took too long, after it was sent. To find out, repeat the write with its
	// token: see [Postgres.Once]. Without a token, Get may show it.
	ErrUnknownOutcome = errors.New("metadata: outcome unknown")

	// ErrUnavailable means that the server could not be reached, or ended the connection, and
	// that nothing was written. The same call may succeed later. Only [Postgres.Watch] waits
	// for a server that is gone.
	ErrUnavailable = errors.New("metadata: server unavailable")

	// ErrWrongServer means that the pool's connections lead to a server that cannot do what
	// was asked, and that nothing was done. Each connection that turned out so was closed, and
	// the operation tried on another, for as many as the pool has, and four at least. The
	// error also matches ErrStandby, ErrReadOnly or ErrUnknownHold, which say what was found.
	ErrWrongServer = errors.New("metadata: wrong server")

	// ErrStandby means that the server is a standby.
	ErrStandby = fmt.Errorf("%w: it is a standby", ErrWrongServer)

	// ErrReadOnly means that the server, or the role or database, has only read-only
	// transactions (default_transaction_read_only), or that the host's transaction is one.
	ErrReadOnly = fmt.Errorf("%w: its transactions are read-only", ErrWrongServer)

	// ErrUnknownHold means that the server does not know the lock that the context carries:
	// the lock is held on another server, or it has been lost and the holder has not been
	// notified yet. It matches [lock.ErrLost], too.
	ErrUnknownHold = fmt.Errorf("%w: it does not know the lock that the context carries: %w", ErrWrongServer, lock.ErrLost)

	// ErrSharedHold means that the context carries a shared lock on the document, which does
	// not allow writing it.
	ErrSharedHold = errors.New("metadata: a shared lock does not allow to write")

	// ErrClosed means that the store has been closed.
	ErrClosed = errors.New("metadata: closed")

	// ErrInvalidOptions means that a database handle, a [Table] or [Options] cannot be used.
	// The error's text says why.
	ErrInvalidOptions = errors.New("metadata: invalid options")

	// ErrUnsupported means that the store has no such operation as it is configured, or on
	// such a database. The error's text says what it would take.
	ErrUnsupported = errors.New("metadata: unsupported")
)

// ErrorType returns a short name for the kind of an error, for an attribute such as
// OpenTelemetry's error.type: the first of these that the error matches, or else what
// [lock.ErrorType] returns, such as busy, lost, evicted, canceled, timeout, or "_OTHER". It is
// empty for nil.
//
//	unknown_outcome      [ErrUnknownOutcome]
//	unavailable          [ErrUnavailable]
//	wrong_server         [ErrWrongServer]
//	stale                [ErrStale]
//	too_large            [ErrTooLarge]
//	invalid              [ErrInvalidPatch], [ErrMalformed], [ErrInvalidID], [ErrInvalidFilter],
//	                     [ErrInvalidDocument], [ErrInvalidToken], [ErrInvalidOptions]
//	token_reused         [ErrTokenReused]
//	rejected             [ErrRejected]
//	protected            [ErrProtected]
//	not_found            [ErrNotFound]
//	conflict             [ErrConflict]
//	schema               [ErrSchema]
//	unsupported          [ErrUnsupported], [ErrSharedHold]
//	closed               [ErrClosed]
//	busy                 a commit that found the document's lock, or its row, taken
//	superseded           a commit that was not made, as the document was not as expected by then
//	panic                what an [Observer] gets for an operation or commit that panicked
func ErrorType(err error) string {
	if err == nil {
		return ""
	}
	for _, t := range errorTypes {
		if errors.Is(err, t.of) {
			return t.name
		}
	}
	return lock.ErrorType(err)
}

var errorTypes = []struct {
	of   error
	name string
}{
	{ErrUnknownOutcome, "unknown_outcome"},
	{ErrUnavailable, "unavailable"},
	{ErrWrongServer, "wrong_server"},
	{ErrStale, "stale"},
	{ErrTooLarge, "too_large"},
	{ErrInvalidPatch, "invalid"},
	{ErrMalformed, "invalid"},
	{ErrInvalidID, "invalid"},
	{ErrInvalidFilter, "invalid"},
	{ErrInvalidDocument, "invalid"},
	{ErrInvalidToken, "invalid"},
	{ErrInvalidOptions, "invalid"},
	{ErrTokenReused, "token_reused"},
	{ErrRejected, "rejected"},
	{ErrProtected, "protected"},
	{ErrNotFound, "not_found"},
	{ErrConflict, "conflict"},
	{ErrSchema, "schema"},
	{ErrUnsupported, "unsupported"},
	{ErrSharedHold, "unsupported"},
	{ErrClosed, "closed"},
	{errTaken, "busy"},
	{errPutBack, "superseded"},
	{errSlowDecision, "superseded"},
	{errPanicked, "panic"},
}

// PatchError says what is wrong with a patch or document, and where. It matches
// [ErrInvalidPatch], and [ErrMalformed] or [ErrTooLarge] if that is what is wrong, or
// [ErrInvalidFilter] if it is from [Postgres.Find]. For the target of [MergePatch], and from
// [Memory.Put], it matches [ErrInvalidDocument] instead.
type PatchError struct {
	Path   string // such as $.profile["first name"][0]; $ is the whole
	Reason string

	kind error // instead of ErrInvalidPatch, or beside it
}

// Error returns the reason and the path, and no value.
func (e *PatchError) Error() string {
	return fmt.Sprintf("%s: %s at %s", e.Unwrap()[0], e.Reason, e.Path)
}

// Unwrap returns the sentinels that the error matches.
func (e *PatchError) Unwrap() []error {
	switch e.kind {
	case nil:
		return []error{ErrInvalidPatch}
	case ErrTooLarge, ErrInvalidFilter:
		return []error{e.kind, ErrInvalidPatch}
	case ErrMalformed:
		return []error{ErrInvalidPatch, ErrMalformed}
	}
	return []error{e.kind}
}

func (e *PatchError) of(kind error) *PatchError {
	e.kind = kind
	return e
}

// patchError is the error for callers of a text that [jsonb.Parse] refused.
func patchError(err error) *PatchError {
	refused := err.(*jsonb.Error)
	e := &PatchError{Path: refused.Path, Reason: refused.Reason}
	switch {
	case refused.Malformed:
		e.kind = ErrMalformed
	case refused.TooLarge:
		e.kind = ErrTooLarge
	}
	return e
}

// DocumentSizeError says that a write would have made a document larger than
// [Options].MaxDocumentBytes allows. The patch itself is valid. It matches [ErrTooLarge].
type DocumentSizeError struct {
	Size, Max int // of the document as it would have been, in bytes as PostgreSQL prints it
}

// Error returns both sizes.
func (e *DocumentSizeError) Error() string {
	return fmt.Sprintf("%s: the document would have %d bytes, and may have %d", ErrTooLarge, e.Size, e.Max)
}

// Unwrap returns [ErrTooLarge].
func (e *DocumentSizeError) Unwrap() error { return ErrTooLarge }

// VersionError says which version a write asked for, and which the document has. It matches
// [ErrConflict].
type VersionError struct{ Want, Have int64 }

// Error returns both versions.
func (e *VersionError) Error() string {
	return fmt.Sprintf("%s: want %d, have %d", ErrConflict, e.Want, e.Have)
}

// Unwrap returns [ErrConflict].
func (e *VersionError) Unwrap() error { return ErrConflict }

// ProtectedError says which protected key a write would have changed. It matches
// [ErrProtected].
type ProtectedError struct{ Key string }

// Error returns the key.
func (e *ProtectedError) Error() string { return fmt.Sprintf("%s: %q", ErrProtected, e.Key) }

// Unwrap returns [ErrProtected].
func (e *ProtectedError) Unwrap() error { return ErrProtected }

// RejectedError says what in the database refused a write. It matches [ErrRejected].
type RejectedError struct {
	SQLState                  string // PostgreSQL documentation, Appendix A
	Schema, Table, Constraint string // if the server names them
	Cause                     error  // with the server's message, if that cannot quote the data
}

// Error returns the cause's text.
func (e *RejectedError) Error() string { return fmt.Sprintf("%s: %s", ErrRejected, e.Cause) }

// Unwrap returns [ErrRejected] and the cause.
func (e *RejectedError) Unwrap() []error { return []error{ErrRejected, e.Cause} }
