package faults_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/lockstore/internal/faults/workload"
	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

// ignorantStore merges without taking the document's lock.
type ignorantStore struct {
	workload.Store
	pool *pgxpool.Pool
}

func (s *ignorantStore) Merge(ctx context.Context, id string, patch json.RawMessage) (doc metadata.Document, err error) {
	err = s.pool.QueryRow(ctx, `INSERT INTO lockstore_metadata AS t (id, metadata, version) VALUES ($1, $2, 1)
		ON CONFLICT (id) DO UPDATE SET metadata = t.metadata || $2, version = t.version + 1
		RETURNING id, metadata, version`, id, patch).Scan(&doc.ID, (*[]byte)(&doc.Metadata), &doc.Version)
	return doc, err
}

// ignorantMany does the same for many documents.
type ignorantMany struct {
	workload.Store
	one *ignorantStore
}

func (s ignorantMany) MergeMany(ctx context.Context, patches []metadata.Patch) ([]metadata.Result, error) {
	results := make([]metadata.Result, len(patches))
	for i, p := range patches {
		results[i].Document, results[i].Err = s.one.Merge(ctx, p.ID, p.Patch)
	}
	return results, nil
}

// earlyStore answers before it commits, and one commit in five fails.
type earlyStore struct {
	workload.Store
	postgres *metadata.Postgres
	pool     *pgxpool.Pool
	merges   atomic.Int64
}

func (s *earlyStore) Merge(ctx context.Context, id string, patch json.RawMessage) (metadata.Document, error) {
	tx, err := s.pool.Begin(ctx)
	if err != nil {
		return metadata.Document{}, err
	}
	defer tx.Rollback(ctx)
	doc, err := s.postgres.In(tx).Merge(ctx, id, patch)
	if err == nil && s.merges.Add(1)%5 > 0 {
		err = tx.Commit(ctx)
	}
	return doc, err
}

// lossyBatch combines the patches that arrive while it is busy, and stores all but the last.
type lossyBatch struct {
	workload.Store
	mu    sync.Mutex
	batch map[string][]chan<- answer
	todo  map[string][]json.RawMessage
}

type answer struct {
	doc metadata.Document
	err error
}

func (s *lossyBatch) Merge(ctx context.Context, id string, patch json.RawMessage) (metadata.Document, error) {
	if lock.FromContext(ctx, s.Key(id)) != nil {
		return s.Store.Merge(ctx, id, patch)
	}
	mine := make(chan answer, 1)
	s.mu.Lock()
	if s.batch == nil {
		s.batch, s.todo = map[string][]chan<- answer{}, map[string][]json.RawMessage{}
	}
	leads := len(s.batch[id]) == 0
	s.batch[id], s.todo[id] = append(s.batch[id], mine), append(s.todo[id], patch)
	s.mu.Unlock()
	if leads {
		time.Sleep(time.Millisecond) // others arrive
		s.mu.Lock()
		batch, todo := s.batch[id], s.todo[id]
		delete(s.batch, id)
		delete(s.todo, id)
		s.mu.Unlock()
		for i, patch := range todo {
			var a answer
			if i == 0 || i < len(todo)-1 {
				a.doc, a.err = s.Store.Merge(ctx, id, patch)
			} else if a.doc, a.err = s.Store.Get(ctx, id); a.err == nil {
				a.doc.Version++
				a.doc.Metadata, a.err = metadata.MergePatch(a.doc.Metadata, patch)
			}
			batch[i] <- a
		}
	}
	a := <-mine
	return a.doc, a.err
}

// readThenWrite updates what it has read without a lock.
type readThenWrite struct{ workload.Store }

func (s readThenWrite) Update(ctx context.Context, id string, decide func(metadata.Document) (json.RawMessage, error)) (metadata.Document, error) {
	doc, err := s.Get(ctx, id)
	if err != nil && !errors.Is(err, metadata.ErrNotFound) {
		return doc, err
	}
	patch, err := decide(doc)
	if err != nil {
		return doc, err
	}
	return s.Merge(ctx, id, patch)
}

// staleReader reads a document only once.
type staleReader struct {
	workload.Store
	mu   sync.Mutex
	seen map[string]metadata.Document
}

func (s *staleReader) Get(ctx context.Context, id string) (metadata.Document, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	doc, ok := s.seen[id]
	if ok {
		return doc, nil
	}
	doc, err := s.Store.Get(ctx, id)
	if err == nil {
		s.seen[id] = doc
	}
	return doc, err
}

// rawReader reads with its own SQL, on any server that its pool leads to, and with any
// operator in the search path.
type rawReader struct {
	workload.Store
	pool  *pgxpool.Pool
	table string
}

func (s rawReader) Get(ctx context.Context, id string) (doc metadata.Document, err error) {
	err = s.pool.QueryRow(ctx, "SELECT id, metadata, version FROM "+s.table+" WHERE id = $1", id).
		Scan(&doc.ID, (*[]byte)(&doc.Metadata), &doc.Version)
	if errors.Is(err, pgx.ErrNoRows) {
		err = metadata.ErrNotFound
	}
	return doc, err
}

// mistakes: these mutants give one wrong answer in so many.
const mistakes = 4

// emptyStore returns nil without a document to some callers whose contexts have ended.
type emptyStore struct {
	workload.Store
	ended atomic.Int64
}

func (s *emptyStore) Merge(ctx context.Context, id string, patch json.RawMessage) (metadata.Document, error) {
	doc, err := s.Store.Merge(ctx, id, patch)
	if err != nil && ctx.Err() != nil && s.ended.Add(1)%mistakes == 0 {
		return metadata.Document{}, nil
	}
	return doc, err
}

// denyingStore claims to some callers whose contexts have ended that nothing was written
// because of that.
type denyingStore struct {
	workload.Store
	ended atomic.Int64
}

func (s *denyingStore) Merge(ctx context.Context, id string, patch json.RawMessage) (metadata.Document, error) {
	patient, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	doc, err := s.Store.Merge(patient, id, patch)
	if err == nil && ctx.Err() != nil && s.ended.Add(1)%mistakes == 0 {
		return metadata.Document{}, ctx.Err()
	}
	return doc, err
}

// lateStore stores merges under a hold even if the hold has ended meanwhile.
type lateStore struct {
	workload.Store
	one *ignorantStore
}

func (s lateStore) Merge(ctx context.Context, id string, patch json.RawMessage) (metadata.Document, error) {
	doc, err := s.Store.Merge(ctx, id, patch)
	if errors.Is(err, lock.ErrLost) {
		time.Sleep(time.Millisecond) // the write is in progress
		return s.one.Merge(context.WithoutCancel(ctx), id, patch)
	}
	return doc, err
}

// waitingStore lets one caller at a time get a connection for all waiters, however long that
// takes.
type waitingStore struct {
	workload.Store
	pool *pgxpool.Pool
	turn sync.Mutex
}

func (s *waitingStore) Merge(ctx context.Context, id string, patch json.RawMessage) (metadata.Document, error) {
	s.turn.Lock()
	conn, err := s.pool.Acquire(ctx)
	s.turn.Unlock()
	if err != nil {
		return metadata.Document{}, err
	}
	conn.Release()
	return s.Store.Merge(ctx, id, patch)
}

// sharingStore merges what arrives while it is busy with one statement, whatever that costs,
// and gives up after a while.
type sharingStore struct {
	workload.Store
	pool    *pgxpool.Pool
	mu      sync.Mutex
	busy    bool
	waiting []sharer
}

type sharer struct {
	id, patch string
	mine      chan<- answer
}

const sharedPatience = time.Second

func (s *sharingStore) Merge(ctx context.Context, id string, patch json.RawMessage) (metadata.Document, error) {
	if lock.FromContext(ctx, s.Key(id)) != nil {
		return s.Store.Merge(ctx, id, patch)
	}
	mine := make(chan answer, 1)
	s.mu.Lock()
	s.waiting = append(s.waiting, sharer{id, string(patch), mine})
	leads := !s.busy
	s.busy = true
	s.mu.Unlock()
	if leads {
		go s.lead()
	}
	a := <-mine
	return a.doc, a.err
}

func (s *sharingStore) lead() {
	for {
		batch := map[string]sharer{}
		s.mu.Lock()
		s.waiting = slices.DeleteFunc(s.waiting, func(one sharer) bool {
			_, twice := batch[one.id]
			if !twice {
				batch[one.id] = one
			}
			return !twice
		})
		s.busy = len(batch) > 0
		s.mu.Unlock()
		if len(batch) == 0 {
			return
		}
		s.share(batch)
	}
}

// share takes the keys of nulls from a document one by one.
func (s *sharingStore) share(batch map[string]sharer) {
	var ids, patches []string
	for id, one := range batch {
		ids, patches = append(ids, id), append(patches, one.patch)
	}
	ctx, cancel := context.WithTimeout(context.Background(), sharedPatience)
	defer cancel()
	rows, err := s.pool.Query(ctx, `INSERT INTO lockstore_metadata AS t (id, metadata, version)
		SELECT id, patch, 1 FROM unnest($1::text[], $2::jsonb[]) AS p (id, patch) ORDER BY id
		ON CONFLICT (id) DO UPDATE SET version = t.version + 1,
			metadata = (t.metadata - ARRAY(SELECT key FROM jsonb_each(excluded.metadata) WHERE value = 'null')) || jsonb_strip_nulls(excluded.metadata)
		RETURNING id, metadata, version`, ids, patches)
	var made []metadata.Document
	if err == nil {
		made, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (doc metadata.Document, err error) {
			return doc, row.Scan(&doc.ID, (*[]byte)(&doc.Metadata), &doc.Version)
		})
	}
	if ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", metadata.ErrUnknownOutcome, err)
	}
	for _, doc := range made {
		batch[doc.ID].mine <- answer{doc, err}
		delete(batch, doc.ID)
	}
	for _, one := range batch {
		one.mine <- answer{err: err}
	}
}
