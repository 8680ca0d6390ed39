package metadata

import (
	"context"
	"errors"
	"fmt"
)

// AtLeast derives from ctx a context with which documents are read of this version or a
// later one: Get, GetMany, and what Update gives to decide, fail with [ErrStale] where
// the server has none. It is for reading what one has written, or seen, where the pool
// leads to standbys, too:
//
//	doc, err := store.Merge(ctx, id, patch)
//	...
//	doc, err = store.Get(metadata.AtLeast(ctx, doc.Version), id)
//
// It is meant for one call, since each document has versions of its own; GetMany asks
// for the version of each document. Find does not heed it. Version 0 asks for nothing.
func AtLeast(ctx context.Context, version int64) context.Context {
	return context.WithValue(ctx, atLeastKey{}, version)
}

type atLeastKey struct{}

// checkAge refuses a document that is older than ctx asks for. One that is missing has
// version 0.
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

// ErrStale says that a document is older than [AtLeast] asks for. The error is a
// [*StaleError].
var ErrStale = errors.New("metadata: older than asked for")

// StaleError says which version a reader asked for at least, and which there is: the
// server lags behind, as a standby may, or the document has been deleted since. Have is
// 0 where there is no document. It matches [ErrStale].
type StaleError struct{ Want, Have int64 }

// Error implements error.
func (e *StaleError) Error() string {
	return fmt.Sprintf("%s: want %d, have %d", ErrStale, e.Want, e.Have)
}

// Unwrap gives [ErrStale].
func (e *StaleError) Unwrap() error { return ErrStale }
