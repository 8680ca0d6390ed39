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

// documents are the operations on single documents that [Postgres], [Tx] and [Memory] share.
// They check their arguments, and make a change of each write for an engine to carry out.
//
// To add an operation, see the list of files at the end of MAINTAINING.md.
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
	name         string                         // of the operation
	change       func(*workingCopy) error       // run for each attempt to commit it
	decide       func(Document) (*patch, error) // instead: what to merge, if anything; run on its caller's goroutine
	lastDecision *decision                      // the last one of its own, which may hold still
	patch        *patch                         // the change, where it is nothing but a merge patch
	size         int                            // of what the caller supplied, as it is printed, in bytes
	token        *token                         // by which it is known when it is repeated

	version *int64 // that it asks for; nil: any

	covers bool // what others did before does not show in what it makes
	alone  bool // not in one commit with others
	try    bool // gives up if the document's lock or row is taken

	commit context.Context // that carried it, as observers know it
}

// Key returns the key of a document's lock. While a caller holds it through a [lock.Locker] on
// the same database, other writers of the document wait; its own writes need the context of
// the [lock.Held]. See Locks in the package documentation. The key of an invalid id is
// invalid. Two spellings of a UUID or number have the same key.
func (d *documents) Key(id string) lock.Key {
	canonical, problem := d.options.Table.IDType.canonical(id)
	if problem != "" {
		return lock.Key{}
	}
	return d.options.key(canonical)
}

// Get returns the current document, or an error that matches [ErrNotFound]. It does not wait
// for the document's lock.
//
// With a context that carries a hold of that lock it returns only what was read where the lock
// is held. Otherwise it returns what the connection's server has, and a standby may lag
// behind: see [AtLeast]. [MetadataStore] has the whole contract.
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

// Merge applies a JSON merge patch (RFC 7396) to the document, and returns the document after
// this patch. Where writes may create documents ([Table].Create), it creates a missing one;
// otherwise that is [ErrNotFound].
//
// A nil error means that the patch is in the document for good, exactly once; of a [Tx], if the
// host commits. Any other error means that it was not applied, unless it matches
// [ErrUnknownOutcome].
//
// While others hold the document's lock, Merge waits until ctx ends or [Options].Backoff (of a
// Memory: its Locker) gives up, and then fails with [lock.ErrBusy]. [MetadataStore] has the
// whole contract, and the package documentation a table of the errors.
func (d *documents) Merge(ctx context.Context, id string, text json.RawMessage) (Document, error) {
	p, err := d.parsePatch(text)
	return d.write(ctx, id, d.merging(p), err)
}

// merging is the write that merges a patch.
func (d *documents) merging(p *patch) *write {
	w := &write{name: "Merge", version: d.version, change: func(wc *workingCopy) error {
		if err := d.checkVersion(wc.doc.Version); err != nil {
			return err
		}
		return wc.merge(p.text)
	}}
	if p != nil {
		w.size, w.token = len(p.text), d.tokenFor("merge", p.text)
	}
	if d.version == nil {
		w.patch = p
	}
	return w
}

// Update reads the document, calls decide to make a patch from it, and applies the patch as
// Merge does, to exactly the document that decide was given (read-modify-write). It returns the
// document after this patch. A missing document is {} to decide, where writes may create it.
//
// decide can run several times: only its last run counts. It runs while other writers wait and
// a connection is in use, so it should be quick and not use the same pool, and it must not
// write the same document. If it fails, Update changes nothing, and its error wraps that of
// decide; a nil patch changes nothing either. [MetadataStore] has the whole contract.
func (d *documents) Update(ctx context.Context, id string, decide func(Document) (json.RawMessage, error)) (Document, error) {
	return d.write(ctx, id, &write{name: "Update", version: d.version, token: d.tokenFor("update", nil), decide: func(doc Document) (*patch, error) {
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

// Replace stores document, a JSON object, in place of the current one, or as a new one where
// writes may create documents. It waits and fails as Merge does.
func (d *documents) Replace(ctx context.Context, id string, document json.RawMessage) (Document, error) {
	text, _, err := d.options.parseObject(document)
	return d.write(ctx, id, &write{name: "Replace", version: d.version, size: len(text), token: d.tokenFor("replace", text), covers: true, change: func(wc *workingCopy) error {
		if err := d.checkReplacing(wc, text); err != nil {
			return err
		}
		return wc.replace(text)
	}}, err)
}

// Delete removes the document, and its row with it. If there is none, the error matches
// [ErrNotFound]. It waits and fails as Merge does. Without [Table].Create, where the rows are
// the host's, it fails with [ErrUnsupported].
func (d *documents) Delete(ctx context.Context, id string) error {
	var refused error
	if !d.options.Table.Create {
		refused = fmt.Errorf("%w: Delete removes rows, which takes Table.Create; to empty a document, Replace it", ErrUnsupported)
	}
	_, err := d.write(ctx, id, &write{name: "Delete", version: d.version, token: d.tokenFor("delete", nil), covers: true, change: func(wc *workingCopy) error {
		if wc.fresh {
			return ErrNotFound
		}
		if err := d.checkReplacing(wc, []byte(`{}`)); err != nil {
			return err
		}
		wc.remove()
		return nil
	}}, refused)
	return err
}

// checkReplacing refuses to put text in place of a document that has another version than the
// write asks for, or if that would change a protected key.
func (d *documents) checkReplacing(wc *workingCopy, text []byte) error {
	if err := d.checkVersion(wc.doc.Version); err != nil {
		return err
	}
	for _, key := range d.options.Protect {
		if !d.privileged && !bytes.Equal(jsonb.Find(wc.doc.Metadata, key), jsonb.Find(text, key)) {
			return &ProtectedError{key}
		}
	}
	return nil
}

// write carries out a write, unless it is refused already, and calls the observers.
func (d *documents) write(ctx context.Context, id string, w *write, refused error) (doc Document, err error) {
	err = d.observe(ctx, w.name, func() []string { return []string{id} }, func(ctx context.Context, end *OperationEnd) (err error) {
		doc, err = d.carryOut(ctx, id, w, refused)
		if end != nil {
			end.Commit = w.commit
		}
		return err
	})
	return doc, err
}

// carryOut is write without observers. It counts every call once.
func (d *documents) carryOut(ctx context.Context, id string, w *write, refused error) (doc Document, err error) {
	start := time.Now()
	canonical, err := d.checkID(id)
	if err = cmp.Or(refused, err, d.checkView()); err == nil && ctx.Err() != nil {
		err = causeOf(ctx)
	}
	if err == nil {
		doc, err = d.engine.write(ctx, canonical, w)
	}
	err = d.described(ctx, err)
	d.counts.wrote(w.size, time.Since(start), err)
	return doc, named(id, err)
}

// checkView refuses a view for which the table lacks a column, or Tokens.
func (d *documents) checkView() error {
	if d.version != nil && d.options.Table.Version == "" {
		return fmt.Errorf("%w: IfVersion takes a Table.Version", ErrUnsupported)
	}
	return d.checkToken()
}

// described returns err, with the lock's holder if it is a [lock.BusyError]. err itself stays as
// it is: an observer of the locker may have kept it.
func (d *documents) described(ctx context.Context, err error) error {
	busy, ok := err.(*lock.BusyError)
	if !ok || d.options.LockStatus == nil {
		return err
	}
	brief, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	status, failed := d.options.LockStatus(brief, busy.Key)
	if failed != nil {
		return err
	}
	described := *busy
	described.Status = &status
	return &described
}

// Stats returns the counts so far, of the store with all its views. It sends nothing to the
// server.
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

// conflict returns err if it says that the working copy has another version than the write
// asks for. An error of decide itself does not count.
func (w *write) conflict(err error, wc *workingCopy) *VersionError {
	conflict, ok := err.(*VersionError)
	if !ok || w.version == nil || *w.version == wc.doc.Version || *conflict != (VersionError{Want: *w.version, Have: wc.doc.Version}) {
		return nil
	}
	return conflict
}

// named says which document an error is about.
func named(id string, err error) error {
	if err == nil || errors.Is(err, ErrInvalidID) {
		return err
	}
	return &documentError{id, err}
}

// A documentError says which document an error is about. Its text is made only when asked for,
// as most of the callers that lose a race never do.
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

// causeOf returns why ctx ended, as an error that matches ctx.Err() and its cause.
func causeOf(ctx context.Context) error {
	err, cause := ctx.Err(), context.Cause(ctx)
	if errors.Is(cause, err) {
		return cause
	}
	return errors.Join(err, cause)
}

// because adds the cause of ctx's end to an error that says no more than that
// ctx has ended: the loss of the hold that it carries, for example.
func because(ctx context.Context, err error) error {
	ended, cause := ctx.Err(), context.Cause(ctx)
	if ended == nil || !errors.Is(err, ended) || errors.Is(err, cause) {
		return err
	}
	return fmt.Errorf("%w: %w", err, cause)
}
