package metadata

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"strings"
)

// FindOptions configure [Postgres.Find]. The zero value, and nil, mean the defaults.
type FindOptions struct {
	// After is the id after which to begin (cursor): that of the last document seen. Empty: at
	// the first.
	After string

	// PageSize is how many documents are fetched in a round trip. Default: 100.
	PageSize int
}

// MaxFindElements is the maximum number of elements in all arrays together of a value that
// [Postgres.Find] looks for.
const MaxFindElements = 32

// findSQL is one page, by keyset: it costs the same wherever the page is.
const findSQL = `
SELECT {key}, {row} FROM {table} AS t
WHERE {target} {@>} {1}::{text}::{jsonb} AND {after}{within}
ORDER BY t.{id} LIMIT {2}::bigint`

// pages are the statements for the first page and for the next ones.
type pages struct{ first, next reading }

func newPages(expand func(string) statement, target string) pages {
	page := func(after string) reading {
		return newReading(expand, strings.NewReplacer("{target}", target, "{after}", after).Replace(findSQL), 3)
	}
	return pages{page(fromFirstSQL), page(afterSQL)}
}

// Where a page begins.
const (
	fromFirstSQL = `$1::{text} IS NOT NULL`
	afterSQL     = `t.{id} {>} $1::{text}::{idtype}`
)

// Find yields the documents that contain a JSON value, in the order of their ids. "Contain" is
// jsonb's operator @> (PostgreSQL documentation, section 8.14.3). nil lists all documents: it
// means {}, which every object contains, and so the empty document that NULL stands for.
//
// The loop fetches the documents page by page, and holds no snapshot, lock or connection
// between pages: it may miss or see what changes meanwhile. An error is yielded last.
//
// The value may have up to [MaxFindElements] elements in arrays; more are [ErrTooLarge]. For
// each of them the server goes through whole arrays of every document that it looks at, and
// cannot be interrupted in one. Otherwise the limits of a patch apply. A value that is
// refused, but not for its size, is [ErrInvalidFilter].
//
// A large table needs an index for it, which makes every write more expensive:
//
//	CREATE INDEX ON lockstore_metadata USING gin (metadata jsonb_path_ops);
func (p *Postgres) Find(ctx context.Context, contained json.RawMessage, opts *FindOptions) iter.Seq2[Document, error] {
	return p.observeLoop(ctx, "Find", nil, func(ctx context.Context) iter.Seq2[Document, error] {
		return p.find(ctx, contained, opts)
	})
}

// find is Find without its observer.
func (p *Postgres) find(ctx context.Context, contained json.RawMessage, opts *FindOptions) iter.Seq2[Document, error] {
	return func(yield func(Document, error) bool) {
		var o FindOptions
		if opts != nil {
			o = *opts
		}
		if len(contained) == 0 {
			contained = json.RawMessage(`{}`)
		}
		size := max(cmp.Or(o.PageSize, 100), 1)
		filter, err := p.options.parseFilter(contained)
		if err != nil {
			yield(Document{}, err)
			return
		}
		pages := &p.pg.sql.find
		if string(filter) == "{}" {
			pages = &p.pg.sql.findAll
		}
		after, s := "", pages.first
		if o.After != "" {
			if after, err = p.checkID(o.After); err != nil {
				yield(Document{}, err)
				return
			}
			s = pages.next
		}
		for {
			page, err := p.pg.page(ctx, s, after, string(contained), int64(size))
			if err != nil {
				yield(Document{}, err)
				return
			}
			for _, doc := range page {
				if !yield(doc, nil) {
					return
				}
			}
			if len(page) < size {
				return
			}
			after, s = page[len(page)-1].ID, pages.next
		}
	}
}

// parseFilter checks what Find is to look for.
func (o *Options) parseFilter(filter json.RawMessage) (json.RawMessage, error) {
	printed, m, err := o.parse(filter)
	var refused *PatchError
	switch {
	case errors.As(err, &refused) && refused.kind != ErrTooLarge:
		err = refused.of(ErrInvalidFilter)
	case err == nil && m.Elements > MaxFindElements:
		err = (&PatchError{Path: "$", Reason: fmt.Sprintf("more than %d elements in arrays", MaxFindElements)}).of(ErrTooLarge)
	}
	return printed, err
}

func (p *postgres) page(ctx context.Context, r reading, after, contained string, size int64) (page []Document, err error) {
	if p.queues.isClosed() {
		return nil, ErrClosed
	}
	if err := p.fit(ctx, p.db); err != nil {
		return nil, err
	}
	under, err := serverHoldsOf(ctx, p.options.isDocument)
	if err != nil {
		return nil, err
	}
	err = p.readAll(ctx, p.db, r, under, func(doc Document) { page = append(page, doc) }, after, contained, size)
	return page, err
}
