package metadata

import (
	"context"
	"errors"
	"fmt"
)

// AtLeast returns a context with which reads return this version of a document or a later one:
// Get, GetMany, and Update before it calls decide, fail with [ErrStale] if the server has
// none. It is for reading what one has written, or seen, if the pool leads to standbys, too
// (read your writes):
//
//	doc, err := store.Merge(ctx, id, patch)
//	...
//	doc, err = store.Get(metadata.AtLeast(ctx, doc.Version), id)
//
// It is meant for one call, as each document has its own versions; GetMany asks for the version
// of each document. Find and Watch ignore it. Version 0 asks for nothing. Without a
// [Table].Version those calls fail with [ErrUnsupported].
func AtLeast(ctx context.Context, version int64) context.Context {
	return context.WithValue(ctx, atLeastKey{}, version)
}

type atLeastKey struct{}

// checkAge refuses a document that is older than ctx asks for. A missing one has version 0.
func (o *Options) checkAge(ctx context.Context, have int64) error {
	want, _ := ctx.Value(atLeastKey{}).(int64)
	switch {
	case want <= 0:
		return nil
	case o.Table.Version == "":
		return fmt.Errorf("%w: AtLeast takes a Table.Version", ErrUnsupported)
	case have < want:
		return &StaleError{Want: want, Have: have}
	}
	return nil
}

// ErrStale means that a document is older than [AtLeast] asks for. The error is a
// [*StaleError].
var ErrStale = errors.New("metadata: older than asked for")

// StaleError says which version a reader asked for at least, and which the server has: it lags
// behind, as a standby may, or the document has been deleted since. Have is 0 if there is no
// document. It matches [ErrStale].
type StaleError struct{ Want, Have int64 }

// Error returns both versions.
func (e *StaleError) Error() string {
	return fmt.Sprintf("%s: want %d, have %d", ErrStale, e.Want, e.Have)
}

// Unwrap returns [ErrStale].
func (e *StaleError) Unwrap() error { return ErrStale }
