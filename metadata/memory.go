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

// Memory is a [MetadataStore] without a server, for hosts' unit tests and for
// programs that are alone. It answers as a [Postgres] on the default table
// does, or on the Table in its options, to the byte. Its documents end with it.
type Memory struct{ documents }

var _ MetadataStore = (*Memory)(nil)

// NewMemory returns a Memory without documents. Its writers take the
// documents' locks from locker, so that who holds one there keeps them out, and no hold
// of another Locker counts;
// nil is a [lock.Memory] that nobody else has. Of the options it heeds those
// that are not about the server.
func NewMemory(locker lock.Locker, opts *Options) (*Memory, error) {
	o, err := opts.withDefaults()
	if err != nil {
		return nil, err
	}
	if locker == nil {
		locker = lock.NewMemory()
	}
	m := &memory{locker: locker, options: &o, turns: lock.NewMemory(), stored: map[string]Document{}, tokens: map[string]tokens{}}
	m.watching = newWatching(m, &o, nil, func(context.Context) (string, bool) { return "", true })
	return &Memory{documents{engine: m, options: &o, counts: new(counts)}}, nil
}

// Privileged is a view of the store that may change protected keys.
func (m *Memory) Privileged() *Memory {
	view := *m
	view.privileged = true
	return &view
}

// IfVersion is a view of the store whose writes fail with [ErrConflict],
// changing nothing, unless the document is of this version when they come to
// it: see [Postgres.IfVersion].
func (m *Memory) IfVersion(version int64) *Memory {
	view := *m
	view.version = &version
	return &view
}

// Put stores doc as the host's own INSERT or UPDATE of a row would: with its version
// and time, without asking for the document's lock, whatever the options allow. It is
// how a Memory of a [Table] whose rows are the host's comes by them. Metadata is any
// JSON; none counts as an empty document. The error matches [ErrInvalidID] or
// [ErrInvalidDocument].
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

	turns *lock.Memory // of writes under one hold, which does not keep them from each other

	mu     sync.Mutex
	stored map[string]Document
	tokens map[string]tokens // by document
	aging  []keptToken       // in the order in which they came

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

// load returns a copy of a document, which is the caller's.
func (m *memory) load(id string) (Document, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	doc, ok := m.stored[id]
	doc.Metadata = slices.Clone(doc.Metadata)
	return doc, ok
}

func (m *memory) write(ctx context.Context, id string, w *write) (doc Document, err error) {
	for wait := leaderBudget; ; wait *= 2 {
		if doc, err = m.attempt(ctx, id, w, wait); err != errLate {
			return doc, err
		}
	}
}

// attempt is a write whose document is let go if it decides for longer than wait.
func (m *memory) attempt(ctx context.Context, id string, w *write, wait time.Duration) (doc Document, err error) {
	var letGo func()
	key := m.options.key(id)
	under, err := carriedBy(ctx, lock.Key{}) // only to be looked at
	if err != nil {
		return Document{}, err
	}
	held := lock.FromContextOf(ctx, m.locker, key) // another's keeps nobody out here
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
		return Document{}, ErrSharedTenure
	default:
		turn, err := m.turns.Lock(ctx, key)
		if err != nil {
			return Document{}, err
		}
		letGo = func() { turn.Unlock() }
		defer letGo()
	}
	doc, found, first, err := m.open(id, w.token)
	if !found {
		doc = Document{ID: id, Metadata: []byte(`{}`)}
	}
	dr := newDraft(doc, !found, m.options)
	switch {
	case err != nil:
		return Document{}, err
	case first != nil:
		return dr.repeated(first.version), nil
	case !found && !m.options.Table.Create:
		return Document{}, ErrNotFound
	}
	if err := w.apply(dr, wait, func() bool { return m.options.MaxBatch > 1 }, letGo); w.conflict(err, dr) != nil {
		return dr.present(), err
	} else if err != nil {
		return Document{}, err
	}
	return m.store(dr, under, w.token)
}

// open is load with what a token's write has made, if that was made.
func (m *memory) open(id string, t *token) (doc Document, found bool, first *made, err error) {
	doc, found = m.load(id)
	m.mu.Lock()
	defer m.mu.Unlock()
	first, err = m.tokens[id].find(t)
	return doc, found, first, err
}

// store makes a draft the document, if its writer still has all that it holds.
func (m *memory) store(dr *draft, under *holdings, t *token) (Document, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := under.check(); err != nil {
		return Document{}, err
	}
	doc := dr.document()
	switch {
	case dr.removed:
		delete(m.stored, doc.ID)
	case dr.changes > 0:
		if m.options.Table.UpdatedAt != "" {
			doc.UpdatedAt = time.Now()
		}
		m.stored[doc.ID] = doc
		doc.Metadata = slices.Clone(doc.Metadata)
	}
	if dr.changes > 0 {
		m.changed(doc.ID)
	}
	if t != nil {
		m.keep(doc.ID, t, doc.Version)
	}
	return doc, nil
}

// Watch returns the documents as they are now, and then each later state of one of them
// that the loop can take in: see [Postgres.Watch].
func (m *Memory) Watch(ctx context.Context, ids ...string) iter.Seq2[Document, error] {
	return m.observeLoop(ctx, "Watch", ids, func(ctx context.Context) iter.Seq2[Document, error] {
		return m.engine.(*memory).watching.watch(ctx, &m.documents, ids)
	})
}

// changed has those who watch a document look at it.
func (m *memory) changed(id string) { m.watching.changed(m.options.key(id).Int64()) }

var _ source = (*memory)(nil)

// look implements [source].
func (m *memory) look(_ context.Context, ids []string, seen func(i int, doc Document, mark string)) error {
	for i, id := range ids {
		doc, _ := m.load(id)
		doc.ID = id
		seen(i, doc, "")
	}
	return nil
}

// differ implements [source]: what there are no marks of is not compared.
func (*memory) differ(context.Context, []string, []string, func(int)) error { return nil }
