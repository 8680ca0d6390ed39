package metadata

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"slices"
	"sync"
	"time"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata/internal/jsonb"
)

// Memory is a [MetadataStore] in memory, for unit tests and for single processes. It returns
// what a [Postgres] on the default table, or on the Table in its options, returns, to the
// byte. Its documents are lost with it. Its methods are safe for concurrent use.
type Memory struct{ documents }

var _ MetadataStore = (*Memory)(nil)

// NewMemory returns a Memory without documents. Its writes take the documents' locks from
// locker: they wait while a lock is held there, and holds of another Locker do not count. nil
// means a [lock.Memory] of its own. Options that are about the server are ignored. The error
// matches [ErrInvalidOptions].
func NewMemory(locker lock.Locker, opts *Options) (*Memory, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	if locker == nil {
		locker = lock.NewMemory()
	}
	m := &memory{locker: locker, options: &o, mutexes: lock.NewMemory(), stored: map[string]Document{}, tokens: map[string]tokens{}}
	m.watching = newWatching(m, &o, nil, func(context.Context) (string, bool) { return "", true })
	return &Memory{documents{engine: m, options: &o, counts: new(counts)}}, nil
}

// Privileged returns a view of the store that may change the keys of [Options].Protect.
func (m *Memory) Privileged() *Memory {
	view := *m
	view.privileged = true
	return &view
}

// IfVersion returns a view of the store whose writes fail with [ErrConflict], and change
// nothing, unless the document has this version when they get to it: see
// [Postgres.IfVersion].
func (m *Memory) IfVersion(version int64) *Memory {
	view := *m
	view.version = &version
	return &view
}

// Put stores doc as the host's own INSERT or UPDATE of a row would: with its version and time,
// without taking the document's lock, and without the limits of the options. So a Memory of a
// [Table] without Create gets its rows. Metadata is any JSON; empty Metadata counts as an empty
// document. The error matches [ErrInvalidID] or [ErrInvalidDocument].
func (m *Memory) Put(doc Document) error {
	id, err := m.checkID(doc.ID)
	if err != nil {
		return err
	}
	text := json.RawMessage(`{}`)
	if len(doc.Metadata) > 0 {
		printed, _, err := jsonb.Parse(doc.Metadata, jsonb.NoLimits)
		if err != nil {
			return named(id, patchError(err).of(ErrInvalidDocument))
		}
		text = printed
	}
	doc.ID, doc.Metadata = id, text
	engine := m.engine.(*memory)
	engine.mu.Lock()
	defer engine.mu.Unlock()
	engine.stored[id] = doc
	engine.changed(id)
	return nil
}

// memory is the engine behind a [Memory] and its views.
type memory struct {
	locker  lock.Locker
	options *Options

	mutexes *lock.Memory // between writes under the same hold, which does not exclude them

	mu     sync.Mutex
	stored map[string]Document
	tokens map[string]tokens // by document
	aging  []keptToken       // oldest first

	watching *watching
}

var _ engine = (*memory)(nil)

func (m *memory) get(ctx context.Context, id string) (Document, error) {
	if ctx.Err() != nil {
		return Document{}, causeOf(ctx)
	}
	if held := lock.FromContextOf(ctx, m.locker, m.options.key(id)); held != nil && held.Context().Err() != nil {
		return Document{}, over(held)
	}
	doc, ok := m.load(id)
	if !ok {
		return Document{}, ErrNotFound
	}
	return doc, nil
}

// load returns a copy of a document, for the caller to own.
func (m *memory) load(id string) (Document, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	doc, ok := m.stored[id]
	doc.Metadata = slices.Clone(doc.Metadata)
	return doc, ok
}

func (m *memory) write(ctx context.Context, id string, w *write) (doc Document, err error) {
	for wait := leaderBudget; ; wait *= 2 {
		if doc, err = m.attempt(ctx, id, w, wait); err != errSlowDecision {
			return doc, err
		}
	}
}

// attempt makes a write. If its decide takes longer than wait, it gives the document up and
// returns errSlowDecision.
func (m *memory) attempt(ctx context.Context, id string, w *write, wait time.Duration) (doc Document, err error) {
	var letGo func()
	key := m.options.key(id)
	under, err := holdsIn(ctx, lock.Key{}) // of any key, to be checked
	if err != nil {
		return Document{}, err
	}
	held := lock.FromContextOf(ctx, m.locker, key) // a hold of another Locker does not count
	switch {
	case held == nil:
		if held, err = m.locker.Lock(ctx, key); err != nil {
			return Document{}, err
		}
		under.all = append(under.all, held)
		letGo = func() { held.Unlock() }
		defer func() {
			if failed := held.Unlock(); failed != nil && err == nil {
				err = fmt.Errorf("%w: %w", ErrUnknownOutcome, failed)
			}
		}()
	case held.Shared():
		return Document{}, ErrSharedHold
	default:
		mutex, err := m.mutexes.Lock(ctx, key)
		if err != nil {
			return Document{}, err
		}
		letGo = func() { mutex.Unlock() }
		defer letGo()
	}
	doc, found, first, err := m.open(id, w.token)
	if !found {
		doc = Document{ID: id, Metadata: []byte(`{}`)}
	}
	wc := newWorkingCopy(doc, !found, m.options)
	switch {
	case err != nil:
		return Document{}, err
	case first != nil:
		return wc.repeated(first.version), nil
	case !found && !m.options.Table.Create:
		return Document{}, ErrNotFound
	}
	if err := w.apply(wc, wait, func() bool { return m.options.MaxBatch > 1 }, letGo); w.conflict(err, wc) != nil {
		return wc.present(), err
	} else if err != nil {
		return Document{}, err
	}
	return m.store(wc, under, w.token)
}

// open is load, with what the token's write has made, if it was made before.
func (m *memory) open(id string, t *token) (doc Document, found bool, first *made, err error) {
	doc, found = m.load(id)
	m.mu.Lock()
	defer m.mu.Unlock()
	first, err = m.tokens[id].find(t)
	return doc, found, first, err
}

// store stores a working copy, if all holds of its writer are still held.
func (m *memory) store(wc *workingCopy, under *carriedHolds, t *token) (Document, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := under.check(); err != nil {
		return Document{}, err
	}
	doc := wc.document()
	switch {
	case wc.removed:
		delete(m.stored, doc.ID)
	case wc.changes > 0:
		if m.options.Table.UpdatedAt != "" {
			doc.UpdatedAt = time.Now()
		}
		m.stored[doc.ID] = doc
		doc.Metadata = slices.Clone(doc.Metadata)
	}
	if wc.changes > 0 {
		m.changed(doc.ID)
	}
	if t != nil {
		m.keep(doc.ID, t, doc.Version)
	}
	return doc, nil
}

// Watch yields the current documents, one for each id, and then each later state of them
// that the loop is ready for: see [Postgres.Watch].
func (m *Memory) Watch(ctx context.Context, ids ...string) iter.Seq2[Document, error] {
	return m.observeLoop(ctx, "Watch", ids, func(ctx context.Context) iter.Seq2[Document, error] {
		return m.engine.(*memory).watching.watch(ctx, &m.documents, ids)
	})
}

// changed makes a document due to its watchers.
func (m *memory) changed(id string) { m.watching.changed(m.options.key(id).Int64()) }

var _ source = (*memory)(nil)

// look reads all documents.
func (m *memory) look(_ context.Context, ids []string, seen func(i int, doc Document, mark string)) error {
	for i, id := range ids {
		doc, _ := m.load(id)
		doc.ID = id
		seen(i, doc, "")
	}
	return nil
}

// differ compares nothing, as there are no marks.
func (*memory) differ(context.Context, []string, []string, func(int)) error { return nil }
