package metadata_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/lockstore/backoff"
	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// exampleDB returns a database as a host has one.
func exampleDB() (db *pgtest.DB, done func()) {
	server, err := pgtest.Start(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	db, err = server.New(context.Background())
	if err != nil {
		log.Fatal(err)
	}
	return db, func() {
		if err := errors.Join(db.Close(), server.Close()); err != nil {
			log.Fatal(err)
		}
	}
}

// exampleStore returns a store on the default table.
func exampleStore(opts *metadata.Options) (store *metadata.Postgres, pool *pgxpool.Pool, done func()) {
	db, stop := exampleDB()
	store, err := metadata.NewPostgres(db.Pool(), opts)
	if err != nil {
		log.Fatal(err)
	}
	if err := store.Migrate(context.Background()); err != nil {
		log.Fatal(err)
	}
	return store, db.Pool(), func() { store.Close(); stop() }
}

func Example() {
	ctx := context.Background()
	store, _, done := exampleStore(nil)
	defer done()

	// Workers write one user's metadata at the same time. No change is lost.
	var wg sync.WaitGroup
	for _, patch := range []string{
		`{"plan": "pro"}`,
		`{"address": {"city": "Lisbon", "zip": null}}`,
		`{"tags": ["a", "b"]}`,
	} {
		wg.Go(func() {
			if _, err := store.Merge(ctx, "ada", json.RawMessage(patch)); err != nil {
				log.Fatal(err)
			}
		})
	}
	wg.Wait()

	doc, err := store.Get(ctx, "ada")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("version %d: %s\n", doc.Version, doc.Metadata)
	// Output:
	// version 3: {"plan": "pro", "tags": ["a", "b"], "address": {"city": "Lisbon"}}
}

func ExampleMergePatch() {
	merged, err := metadata.MergePatch(
		json.RawMessage(`{"title": "Goodbye!", "author": {"given": "John", "family": "Doe"}, "n": 12345678901234567890}`),
		json.RawMessage(`{"title": "Hello!", "author": {"family": null}}`),
	)
	fmt.Println(string(merged), err)
	// Output:
	// {"n": 12345678901234567890, "title": "Hello!", "author": {"given": "John"}} <nil>
}

// A counter is a read-modify-write.
func ExamplePostgres_Update() {
	ctx := context.Background()
	store, _, done := exampleStore(nil)
	defer done()

	type usage struct{ Calls, Limit int }
	for range 3 {
		doc, err := store.Update(ctx, "ada", func(doc metadata.Document) (json.RawMessage, error) {
			u, err := metadata.Decode[usage](doc)
			if err != nil {
				return nil, err
			}
			return json.Marshal(map[string]int{"Calls": u.Calls + 1})
		})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(string(doc.Metadata)) // after this change: each caller gets a number of its own
	}
	// Output:
	// {"Calls": 1}
	// {"Calls": 2}
	// {"Calls": 3}
}

// Compare-and-swap: the write fails if the document was changed since it was read.
func ExamplePostgres_IfVersion() {
	ctx := context.Background()
	store, _, done := exampleStore(nil)
	defer done()

	read, err := store.Merge(ctx, "ada", json.RawMessage(`{"plan": "free"}`))
	if err != nil {
		log.Fatal(err)
	}
	if _, err := store.Merge(ctx, "ada", json.RawMessage(`{"plan": "pro"}`)); err != nil { // another process
		log.Fatal(err)
	}
	doc, err := store.IfVersion(read.Version).Merge(ctx, "ada", json.RawMessage(`{"plan": null}`))
	for errors.Is(err, metadata.ErrConflict) {
		fmt.Println(err)
		fmt.Println(string(doc.Metadata)) // the current document, to decide on again
		doc, err = store.IfVersion(doc.Version).Merge(ctx, "ada", json.RawMessage(`{"was": "pro", "plan": null}`))
	}
	fmt.Println(string(doc.Metadata), err)
	// Output:
	// "ada": metadata: version conflict: want 1, have 2
	// {"plan": "pro"}
	// {"was": "pro"} <nil>
}

// A protected key can be changed only through a privileged view.
func ExamplePostgres_Privileged() {
	ctx := context.Background()
	store, _, done := exampleStore(&metadata.Options{Protect: []string{"system"}})
	defer done()

	_, err := store.Merge(ctx, "ada", json.RawMessage(`{"system": {"quota": 1000000}}`))
	fmt.Println(err)
	doc, err := store.Privileged().Merge(ctx, "ada", json.RawMessage(`{"system": {"quota": 10}}`))
	fmt.Println(string(doc.Metadata), err)
	// Output:
	// "ada": metadata: protected key: "system"
	// {"system": {"quota": 10}} <nil>
}

// Each merge succeeds or fails by itself.
func ExamplePostgres_MergeMany() {
	ctx := context.Background()
	store, _, done := exampleStore(nil)
	defer done()

	results, err := store.MergeMany(ctx, []metadata.Patch{
		{ID: "ada", Patch: json.RawMessage(`{"plan": "pro"}`)},
		{ID: "bob", Patch: json.RawMessage(`{"plan": `)},
		{ID: "eve", Patch: json.RawMessage(`{"plan": "free"}`)},
	})
	for _, r := range results {
		fmt.Println(string(r.Document.Metadata), r.Err)
	}
	fmt.Println(errors.Is(err, metadata.ErrInvalidPatch))

	for doc, err := range store.Find(ctx, json.RawMessage(`{"plan": "pro"}`), nil) {
		fmt.Println(doc.ID, err)
	}
	// Output:
	// {"plan": "pro"} <nil>
	//  "bob": metadata: invalid patch: unexpected end at $.plan
	// {"plan": "free"} <nil>
	// true
	// ada <nil>
}

// A write with a token (idempotency key) is made once, however often this client or another
// repeats it.
func ExamplePostgres_Once() {
	ctx := context.Background()
	store, _, done := exampleStore(&metadata.Options{Table: metadata.Table{Tokens: metadata.DefaultTokens}})
	defer done()

	request := func(token string) (doc metadata.Document, err error) {
		err = backoff.Retry(ctx, backoff.Limit(backoff.Default(), 10), func(ctx context.Context) error {
			doc, err = store.Once(token).Update(ctx, "ada", func(doc metadata.Document) (json.RawMessage, error) {
				var account struct{ Credits int }
				err := json.Unmarshal(doc.Metadata, &account)
				return fmt.Appendf(nil, `{"Credits": %d}`, account.Credits+10), err
			})
			for _, transient := range []error{metadata.ErrUnknownOutcome, metadata.ErrUnavailable, lock.ErrBusy} {
				if errors.Is(err, transient) {
					return err
				}
			}
			return backoff.Permanent(err)
		})
		return doc, err
	}
	for _, token := range []string{"request 1", "request 2", "request 1"} {
		doc, err := request(token)
		fmt.Println(string(doc.Metadata), doc.Repeated, doc.Made, err)
	}
	// Output:
	// {"Credits": 10} false 0 <nil>
	// {"Credits": 20} false 0 <nil>
	// {"Credits": 20} true 1 <nil>
}

// While a lock on the document is held, other writers wait. The holder reads, works and writes.
func ExamplePostgres_Key() {
	ctx := context.Background()
	store, pool, done := exampleStore(nil)
	defer done()
	locker, err := lock.NewPostgres(ctx, pool, nil)
	if err != nil {
		log.Fatal(err)
	}
	defer locker.Close(ctx)
	defer store.Close() // before the locker

	err = lock.Do(ctx, locker, store.Key("ada"), func(ctx context.Context) error {
		_, err := store.Merge(ctx, "ada", json.RawMessage(`{"step": 1}`)) // with the ctx that carries the lock
		if err != nil {
			return err
		}
		// … calls to other services, as long as they take …
		doc, err := store.Merge(ctx, "ada", json.RawMessage(`{"step": 2}`))
		fmt.Println(string(doc.Metadata))
		return err
	})
	fmt.Println(err)
	// Output:
	// {"step": 2}
	// <nil>
}

// A host's transaction changes the host's own tables and the metadata, or neither.
func ExamplePostgres_In() {
	ctx := context.Background()
	store, pool, done := exampleStore(nil)
	defer done()

	tx, err := pool.Begin(ctx) // or a *sql.Tx, or a *sqlx.Tx
	if err != nil {
		log.Fatal(err)
	}
	defer tx.Rollback(ctx)
	if _, err := tx.Exec(ctx, `CREATE TABLE invoices (customer text, amount int)`); err != nil {
		log.Fatal(err)
	}
	if _, err := tx.Exec(ctx, `INSERT INTO invoices VALUES ('ada', 42)`); err != nil {
		log.Fatal(err)
	}
	if _, err := store.In(tx).Merge(ctx, "ada", json.RawMessage(`{"invoices": 1}`)); err != nil {
		log.Fatal(err)
	}
	_, err = store.Get(ctx, "ada")
	fmt.Println(errors.Is(err, metadata.ErrNotFound))
	if err := tx.Commit(ctx); err != nil {
		log.Fatal(err)
	}
	doc, err := store.Get(ctx, "ada")
	fmt.Println(string(doc.Metadata), err)
	// Output:
	// true
	// {"invoices": 1} <nil>
}

// Watch yields the current document and then its changes, by whichever process.
func ExamplePostgres_Watch() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	store, _, done := exampleStore(nil)
	defer done()

	for doc, err := range store.Watch(ctx, "ada") {
		switch {
		case err != nil:
			fmt.Println(err) // ctx has ended, for example
		case doc.Metadata == nil:
			fmt.Println("there is no such document")
		default:
			fmt.Println(doc.Version, string(doc.Metadata))
		}
		if err != nil || doc.Version == 2 {
			break
		}
		if _, err := store.Merge(ctx, "ada", json.RawMessage(fmt.Sprintf(`{"step": %d}`, doc.Version+1))); err != nil {
			log.Fatal(err)
		}
	}
	// Output:
	// there is no such document
	// 1 {"step": 1}
	// 2 {"step": 2}
}

// To wait for a condition, watch until it is met. The context has the deadline.
func ExamplePostgres_Watch_condition() {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	store, _, done := exampleStore(nil)
	defer done()

	waitUntilDone := func(id string) (metadata.Document, error) {
		for doc, err := range store.Watch(ctx, id) {
			var job struct{ Status string }
			if err == nil && doc.Metadata != nil {
				err = json.Unmarshal(doc.Metadata, &job)
			}
			if err != nil || job.Status == "done" {
				return doc, err
			}
		}
		return metadata.Document{}, nil // not reached: a loop without break ends with an error
	}

	go func() { // another process
		for _, status := range []string{"queued", "running", "done"} {
			if _, err := store.Merge(ctx, "job-1", json.RawMessage(fmt.Sprintf(`{"status": %q}`, status))); err != nil {
				log.Fatal(err)
			}
		}
	}()
	doc, err := waitUntilDone("job-1")
	fmt.Println(string(doc.Metadata), err)
	// Output: {"status": "done"} <nil>
}

// In unit tests a Memory takes the place of the database.
func ExampleMemory() {
	upgrade := func(ctx context.Context, s metadata.MetadataStore, user string) error {
		_, err := metadata.MergeValue(ctx, s, user, map[string]any{"plan": "pro", "trial": nil})
		return err
	}

	store, err := metadata.NewMemory(nil, nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(upgrade(context.Background(), store, "ada"))
	doc, err := store.Get(context.Background(), "ada")
	fmt.Println(string(doc.Metadata), err)
	// Output:
	// <nil>
	// {"plan": "pro"} <nil>
}
