package metadata

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata/internal/jsonb"
)

// documents are the operations on single documents, which [Postgres] and
// [Memory] share: they check what they are given and make of each write a
// change, for an engine to carry out.
type documents struct {
	engine     engine
	options    *Options
	counts     *counts
	privileged bool    // may change protected keys
	version    *int64  // that a document must have, if not nil
	token      *string // of each write, if not nil
}

// An engine reads documents and carries out changes. Its ids are canonical.
type engine interface {
	get(ctx context.Context, id string) (Document, error)
	write(ctx context.Context, id string, w *write) (Document, error)
}

// A write is one caller's change of one document.
type write struct {
	name   string                         // of the operation
	change func(*draft) error             // run for each attempt to commit it
	decide func(Document) (*patch, error) // instead: what to merge, if anything; run on its caller's goroutine
	late   *decision                      // the last one of its own, which may hold still
	patch  *patch                         // the change, where it is nothing but a merge patch
	size   int                            // of what the caller supplied, as it is printed, in bytes
	token  *token                         // by which it is known when it is repeated

	version *int64 // that it asks for; nil: any

	covers bool // what others did before does not show in what it makes
	alone  bool // not in one commit with others
	try    bool // gives up where it finds the document in somebody's hands

	commit context.Context // that carried it, as observers know it
}

// Key is the key of a document's lock: whoever holds it through a
// [lock.Locker] on the same database keeps writers out, and writes by itself
// with the context of [lock.Held]. The key of an invalid id is invalid. Two spellings
// of a UUID or number have the same key.
func (d *documents) Key(id string) lock.Key {
	canonical, problem := d.options.Table.IDType.canonical(id)
	if problem != "" {
		return lock.Key{}
	}
	return d.options.key(canonical)
}

// Get implements [MetadataStore].
func (d *documents) Get(ctx context.Context, id string) (doc Document, err error) {
	err = d.observe(ctx, "Get", func() []string { return []string{id} }, func(ctx context.Context, _ *OperationEnd) error {
		canonical, err := d.checkID(id)
		if err != nil {
			return err
		}
		doc, err = d.engine.get(ctx, canonical)
		if err == nil || errors.Is(err, ErrNotFound) {
			if stale := d.options.checkAge(ctx, doc.Version); stale != nil {
				doc, err = Document{}, stale
			}
		}
		return named(id, err)
	})
	return doc, err
}

// Merge implements [MetadataStore].
func (d *documents) Merge(ctx context.Context, id string, text json.RawMessage) (Document, error) {
	p, err := d.parsePatch(text)
	return d.write(ctx, id, d.merging(p), err)
}

// merging is the write that merges a patch.
func (d *documents) merging(p *patch) *write {
	w := &write{name: "Merge", change: func(dr *draft) error { return d.merge(dr, p) }}
	if p != nil {
		w.size, w.token = len(p.text), d.tokenFor("merge", p.text)
	}
	if d.version == nil {
		w.patch = p
	}
	return w
}

// Update implements [MetadataStore].
func (d *documents) Update(ctx context.Context, id string, decide func(Document) (json.RawMessage, error)) (Document, error) {
	return d.write(ctx, id, &write{name: "Update", token: d.tokenFor("update", nil), decide: func(doc Document) (*patch, error) {
		if ctx.Err() != nil {
			return nil, causeOf(ctx)
		}
		if err := cmp.Or(d.checkVersion(doc.Version), d.options.checkAge(ctx, doc.Version)); err != nil {
			return nil, err
		}
		patch, err := decide(doc)
		if err != nil || patch == nil {
			return nil, err
		}
		return d.parsePatch(patch)
	}}, nil)
}

// Replace stores document, a JSON object, in the place of the one there is, or
// as a new one where writes may create. It waits and fails as Merge does.
func (d *documents) Replace(ctx context.Context, id string, document json.RawMessage) (Document, error) {
	text, _, err := d.options.parseObject(document)
	return d.write(ctx, id, &write{name: "Replace", size: len(text), token: d.tokenFor("replace", text), covers: true, change: func(dr *draft) error {
		if err := d.checkVersion(dr.doc.Version); err != nil {
			return err
		}
		for _, key := range d.options.Protect {
			if !d.privileged && !bytes.Equal(jsonb.Find(dr.doc.Metadata, key), jsonb.Find(text, key)) {
				return &ProtectedError{key}
			}
		}
		return dr.replace(text)
	}}, err)
}

// Delete removes the document, and its row with it; [ErrNotFound] says that
// there was none. It waits and fails as Merge does. A table whose rows are the
// host's refuses it with [ErrUnsupported]: see [Table].
func (d *documents) Delete(ctx context.Context, id string) error {
	var refused error
	if !d.options.Table.Create {
		refused = fmt.Errorf("%w: Delete removes rows, which takes Table.Create; to empty a document, Replace it", ErrUnsupported)
	}
	_, err := d.write(ctx, id, &write{name: "Delete", token: d.tokenFor("delete", nil), covers: true, change: func(dr *draft) error {
		if dr.fresh {
			return ErrNotFound
		}
		if err := d.checkVersion(dr.doc.Version); err != nil {
			return err
		}
		for _, key := range d.options.Protect {
			if !d.privileged && jsonb.Find(dr.doc.Metadata, key) != nil {
				return &ProtectedError{key}
			}
		}
		dr.remove()
		return nil
	}}, refused)
	return err
}

// write carries out a write, unless it is refused already, and has that known.
func (d *documents) write(ctx context.Context, id string, w *write, refused error) (doc Document, err error) {
	w.version = d.version
	err = d.observe(ctx, w.name, func() []string { return []string{id} }, func(ctx context.Context, end *OperationEnd) (err error) {
		doc, err = d.carryOut(ctx, id, w, refused)
		if end != nil {
			end.Commit = w.commit
		}
		return err
	})
	return doc, err
}

// carryOut is write, counted once for every call.
func (d *documents) carryOut(ctx context.Context, id string, w *write, refused error) (doc Document, err error) {
	start := time.Now()
	canonical, err := d.checkID(id)
	if err = cmp.Or(refused, err, d.checkView()); err == nil && ctx.Err() != nil {
		err = causeOf(ctx)
	}
	if err == nil {
		doc, err = d.engine.write(ctx, canonical, w)
	}
	d.describe(ctx, err)
	d.counts.wrote(w.size, time.Since(start), err)
	return doc, named(id, err)
}

// checkView refuses what there is no column or table for.
func (d *documents) checkView() error {
	if d.version != nil && d.options.Table.Version == "" {
		return fmt.Errorf("%w: IfVersion takes a Table.Version", ErrUnsupported)
	}
	return d.checkToken()
}

// describe adds the holder to an error that says that the lock is busy.
func (d *documents) describe(ctx context.Context, err error) {
	if err == nil || d.options.DescribeBusy == nil {
		return
	}
	var busy *lock.BusyError
	if errors.As(err, &busy) {
		brief, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		if status, err := d.options.DescribeBusy(brief, busy.Key); err == nil {
			busy.Status = &status
		}
	}
}

// Stats returns the counts so far. It does not ask the server.
func (d *documents) Stats() Stats { return d.counts.stats() }

func (d *documents) checkID(id string) (canonical string, err error) {
	canonical, problem := d.options.Table.IDType.canonical(id)
	if problem != "" {
		return "", fmt.Errorf("%w: %s", ErrInvalidID, problem)
	}
	return canonical, nil
}

func (d *documents) checkVersion(have int64) error {
	if d.version != nil && *d.version != have {
		return &VersionError{Want: *d.version, Have: have}
	}
	return nil
}

// conflict is err, if that says that the draft is of another version than the write asks
// for. Of a decide's own errors none is.
func (w *write) conflict(err error, dr *draft) *VersionError {
	conflict, ok := err.(*VersionError)
	if !ok || w.version == nil || *w.version == dr.doc.Version || *conflict != (VersionError{Want: *w.version, Have: dr.doc.Version}) {
		return nil
	}
	return conflict
}

func (d *documents) merge(dr *draft, p *patch) error {
	if err := d.checkVersion(dr.doc.Version); err != nil {
		return err
	}
	return dr.merge(p.text)
}

// named says which document an error is about.
func named(id string, err error) error {
	if err == nil || errors.Is(err, ErrInvalidID) {
		return err
	}
	return &documentError{id, err}
}

// A documentError says which document an error is about. Of many who lose a race nobody
// may ask.
type documentError struct {
	id  string
	err error
}

func (e *documentError) Error() string {
	const most = 64 // bytes of the id
	if len(e.id) > most {
		return fmt.Sprintf("%q: %v", e.id[:most]+"…", e.err)
	}
	return fmt.Sprintf("%q: %v", e.id, e.err)
}

func (e *documentError) Unwrap() error { return e.err }

// causeOf is why ctx ended: an error that matches ctx.Err() and its cause.
func causeOf(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return errors.Join(err, cause)
}

// because adds the cause of ctx's end to an error that says no more than that
// ctx has ended: that the tenure it carries was lost, say.
func because(ctx context.Context, err error) error {
	ended, cause := ctx.Err(), context.Cause(ctx)
	if ended == nil || !errors.Is(err, ended) || errors.Is(err, cause) {
		return err
	}
	return fmt.Errorf("%w: %w", err, cause)
}
