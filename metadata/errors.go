package metadata

import (
	"errors"
	"fmt"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata/internal/jsonb"
)

// What an operation failed of. Errors carry the document's id, keys and the
// names of database objects, but never a value of a document or patch.
//
// A few match more than one of these. A host that makes status codes of them asks in
// this order: [ErrUnknownOutcome] (500, or 504), [ErrUnavailable],
// [ErrWrongServer] and [ErrStale] (503), [ErrMalformed],
// [ErrInvalidID] and [ErrInvalidToken] (400), [ErrTooLarge] (413), [ErrInvalidPatch], [ErrRejected] and
// [ErrTokenReused] (422), [ErrProtected] (403), [ErrNotFound] (404), [lock.ErrBusy] and [ErrConflict]
// (409, or 412).
//
// Merges and other writes that find the document's lock taken fail with an
// error that matches [lock.ErrBusy], those under a tenure that has ended with
// one that matches [lock.ErrLost].
var (
	// ErrNotFound says that there is no document with this id.
	ErrNotFound = errors.New("metadata: not found")

	// ErrInvalidID says that an id cannot be one of the table's. Nothing was
	// sent to the server.
	ErrInvalidID = errors.New("metadata: invalid id")

	// ErrInvalidPatch says that a patch or a document to store was refused
	// before anything was sent to the server. The error is a [*PatchError], which
	// matches ErrMalformed or ErrTooLarge, too, where that is why.
	ErrInvalidPatch = errors.New("metadata: invalid patch")

	// ErrMalformed says that a patch or a document to store is not JSON at all.
	ErrMalformed = errors.New("metadata: malformed JSON")

	// ErrInvalidFilter says that what Find was to look for cannot be looked for. The
	// error is a [*PatchError].
	ErrInvalidFilter = errors.New("metadata: invalid filter")

	// ErrInvalidDocument says that a document is not what it should be: the
	// target given to [MergePatch] is not JSON, or [Decode] does not fit it.
	ErrInvalidDocument = errors.New("metadata: invalid document")

	// ErrTooLarge says that a patch, or a document to store, is larger than
	// [Options] allow; the error is a [*PatchError] then, which matches
	// ErrInvalidPatch, too. Or it says that a write would have made a document
	// larger than that, be the patch itself small; the error is a
	// [*DocumentSizeError] then, which does not.
	ErrTooLarge = errors.New("metadata: too large")

	// ErrConflict says that the document is not of the version asked for. The
	// error is a [*VersionError].
	ErrConflict = errors.New("metadata: version conflict")

	// ErrProtected says that a write would have changed a protected key. The
	// error is a [*ProtectedError].
	ErrProtected = errors.New("metadata: protected key")

	// ErrRejected says that the database refused the data: a constraint, a
	// trigger, a row-level security policy. The error is a [*RejectedError].
	ErrRejected = errors.New("metadata: rejected by the database")

	// ErrInvalidToken says that [Postgres.Once] was given no possible token. Nothing was
	// sent to the server.
	ErrInvalidToken = errors.New("metadata: invalid token")

	// ErrTokenReused says that a token was used before, for another write of the same
	// document. The error is a [*TokenError].
	ErrTokenReused = errors.New("metadata: token reused")

	// ErrSchema says that the database lacks the table, a column or the merge
	// function, or has them otherwise than [Table] says.
	ErrSchema = errors.New("metadata: not in the database as configured")

	// ErrUnknownOutcome says that a write may or may not have been made: the
	// connection broke, or took too long, after it was sent. Repeating it with its token
	// tells: see [Postgres.Once]. Without one Get may.
	ErrUnknownOutcome = errors.New("metadata: outcome unknown")

	// ErrUnavailable says that the server could not be reached, or ended the
	// connection, and that nothing was written: the same may succeed at another time.
	// No operation waits for a server that is gone.
	ErrUnavailable = errors.New("metadata: server unavailable")

	// ErrWrongServer says that the pool's connections lead to a server that cannot do
	// what was asked, and that nothing was done. Each of them that has shown that has
	// been closed, and the operation tried on another, for as many as the pool has,
	// and four at least.
	// The error matches one of the next three, which say what has shown it.
	ErrWrongServer = errors.New("metadata: wrong server")

	// ErrStandby says that the server is a standby.
	ErrStandby = fmt.Errorf("%w: it is a standby", ErrWrongServer)

	// ErrReadOnly says that the server, or the role or database, has only read-only
	// transactions (default_transaction_read_only), or that the host's transaction is one.
	ErrReadOnly = fmt.Errorf("%w: its transactions are read-only", ErrWrongServer)

	// ErrUnknownHold says that the server does not know the lock that the context
	// carries: it is not the one on which the lock is held, or the lock has been lost,
	// which its holder has not been told yet. It matches [lock.ErrLost], too.
	ErrUnknownHold = fmt.Errorf("%w: it does not know the lock that the context carries: %w", ErrWrongServer, lock.ErrLost)

	// ErrSharedTenure says that the context carries a shared lock on the
	// document, which does not allow to write it.
	ErrSharedTenure = errors.New("metadata: a shared lock does not allow to write")

	// ErrClosed says that the store has been closed.
	ErrClosed = errors.New("metadata: closed")

	// ErrInvalidOptions says that a database handle, a [Table] or [Options]
	// cannot be used; the error's text says why.
	ErrInvalidOptions = errors.New("metadata: invalid options")

	// ErrUnsupported says that the store, as it is configured, or on such a
	// database, has no such operation; the error's text says what it would take.
	ErrUnsupported = errors.New("metadata: unsupported")
)

// ErrorType names the kind of error, for an attribute such as OpenTelemetry's error.type: the
// first of these that it matches, or else what [lock.ErrorType] says, such as busy, lost,
// evicted, canceled, timeout, or "_OTHER". It is empty for nil.
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
//	unsupported          [ErrUnsupported], [ErrSharedTenure]
//	closed               [ErrClosed]
//	busy                 a commit that has found the document's lock, or its row, taken
//	superseded           a commit that was not made, as the document is not as it was to be by then
//	panic                what an [Observer] is told of what has panicked
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
	{ErrSharedTenure, "unsupported"},
	{ErrClosed, "closed"},
	{errTaken, "busy"},
	{errPutBack, "superseded"},
	{errLate, "superseded"},
	{errPanicked, "panic"},
}

// PatchError says what is wrong with a patch or document, and where. It
// matches [ErrInvalidPatch], and [ErrMalformed] or [ErrTooLarge] where that is what is
// wrong, or [ErrInvalidFilter] where Find was asked.
type PatchError struct {
	Path   string // such as $.profile["first name"][0]; $ is the whole
	Reason string

	kind error // instead of ErrInvalidPatch, or beside it
}

// Error implements error.
func (e *PatchError) Error() string {
	return fmt.Sprintf("%s: %s at %s", e.Unwrap()[0], e.Reason, e.Path)
}

// Unwrap gives the sentinels that the error matches.
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

// patchError is what callers are told of a text that [jsonb.Parse] refused.
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
// [Options].MaxDocumentBytes allow. Nothing is wrong with the patch: the document has
// no room for it. It matches [ErrTooLarge].
type DocumentSizeError struct {
	Size, Max int // of the document as it would have been, in bytes as PostgreSQL prints it
}

// Error implements error.
func (e *DocumentSizeError) Error() string {
	return fmt.Sprintf("%s: the document would have %d bytes, and may have %d", ErrTooLarge, e.Size, e.Max)
}

// Unwrap gives [ErrTooLarge].
func (e *DocumentSizeError) Unwrap() error { return ErrTooLarge }

// VersionError says which version a write asked for and which there is. It
// matches [ErrConflict].
type VersionError struct{ Want, Have int64 }

// Error implements error.
func (e *VersionError) Error() string {
	return fmt.Sprintf("%s: want %d, have %d", ErrConflict, e.Want, e.Have)
}

// Unwrap gives [ErrConflict].
func (e *VersionError) Unwrap() error { return ErrConflict }

// ProtectedError says which protected key a write would have changed. It
// matches [ErrProtected].
type ProtectedError struct{ Key string }

// Error implements error.
func (e *ProtectedError) Error() string { return fmt.Sprintf("%s: %q", ErrProtected, e.Key) }

// Unwrap gives [ErrProtected].
func (e *ProtectedError) Unwrap() error { return ErrProtected }

// RejectedError says what in the database refused a write. It matches
// [ErrRejected].
type RejectedError struct {
	SQLState                  string // PostgreSQL documentation, Appendix A
	Schema, Table, Constraint string // where the server names them
	Cause                     error  // with the server's message, if that cannot quote the data
}

// Error implements error.
func (e *RejectedError) Error() string { return fmt.Sprintf("%s: %s", ErrRejected, e.Cause) }

// Unwrap gives [ErrRejected] and the cause.
func (e *RejectedError) Unwrap() []error { return []error{ErrRejected, e.Cause} }
