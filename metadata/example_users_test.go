package metadata_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jmoiron/sqlx"

	"example.com/lockstore/metadata"
)

// users is a host's existing table, with other columns, a trigger that keeps a history, and NULL
// metadata in old rows.
const users = `
CREATE TABLE users (
	id         uuid PRIMARY KEY,
	email      text NOT NULL,
	metadata   jsonb,
	revision   int NOT NULL DEFAULT 0,
	updated_at timestamptz NOT NULL DEFAULT now()
);
CREATE TABLE history (user_id uuid, metadata jsonb);
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
	INSERT INTO history VALUES (OLD.id, OLD.metadata);
	RETURN NEW;
END $$;
CREATE TRIGGER keep BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION keep();
INSERT INTO users (id, email) VALUES ('9b2b6a1e-6d5c-4a4e-8f0e-000000000001', 'ada@example.com')`

// The metadata column of a host's own table becomes a store. Migrate creates the merge function
// only, and leaves the table as it is. The table's trigger keeps a history.
func ExampleTable() {
	ctx := context.Background()
	db, done := exampleDB()
	defer done()
	var pool *pgxpool.Pool = db.Pool()
	if _, err := pool.Exec(ctx, users); err != nil {
		log.Fatal(err)
	}

	store, err := metadata.NewPostgres(pool, &metadata.Options{Table: metadata.Table{
		Name: "users", IDType: metadata.UUID, Version: "revision", UpdatedAt: "updated_at",
	}})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	if err := store.Migrate(ctx); err != nil {
		log.Fatal(err)
	}
	for _, patch := range []string{`{"plan": "free", "trial": true}`, `{"plan": "pro", "trial": null}`} {
		doc, err := store.Merge(ctx, "9B2B6A1E-6D5C-4A4E-8F0E-000000000001", json.RawMessage(patch))
		fmt.Println(doc.Version, string(doc.Metadata), err)
	}
	_, err = store.Merge(ctx, "9b2b6a1e-6d5c-4a4e-8f0e-000000000002", json.RawMessage(`{}`))
	fmt.Println(err)
	var kept int
	err = pool.QueryRow(ctx, "SELECT count(*) FROM history").Scan(&kept)
	fmt.Println(kept, err)
	// Output:
	// 1 {"plan": "free", "trial": true} <nil>
	// 2 {"plan": "pro"} <nil>
	// "9b2b6a1e-6d5c-4a4e-8f0e-000000000002": metadata: not found
	// 2 <nil>
}

// The same with sqlx, for a host that may not create functions: MergeInGo needs none.
func ExampleTable_sqlx() {
	ctx := context.Background()
	host, done := exampleDB()
	defer done()
	var db *sqlx.DB = host.SQLX()
	db.MustExec(users)

	store, err := metadata.NewPostgres(db, &metadata.Options{MergeInGo: true, Table: metadata.Table{
		Name: "users", IDType: metadata.UUID, Version: "revision", UpdatedAt: "updated_at",
	}})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	const ada = "9b2b6a1e-6d5c-4a4e-8f0e-000000000001"
	doc, err := store.Merge(ctx, ada, json.RawMessage(`{"plan": "free"}`))
	fmt.Println(doc.Version, string(doc.Metadata), err)

	tx := db.MustBegin()
	defer tx.Rollback()
	tx.MustExec(`UPDATE users SET email = 'ada@example.org' WHERE id = $1`, ada)
	doc, err = store.In(tx).Merge(ctx, ada, json.RawMessage(`{"moved": true}`))
	fmt.Println(doc.Version, string(doc.Metadata), err)
	fmt.Println(tx.Commit())

	var row struct{ Email, Metadata string }
	err = db.Get(&row, `SELECT email, metadata FROM users WHERE id = $1`, ada)
	fmt.Println(row.Email, row.Metadata, err)
	// Output:
	// 1 {"plan": "free"} <nil>
	// 2 {"plan": "free", "moved": true} <nil>
	// <nil>
	// ada@example.org {"plan": "free", "moved": true} <nil>
}

// Hosts with a migration tool run the DDL there. For goose, put each of the two between
// -- +goose StatementBegin and -- +goose StatementEnd.
func ExampleTable_DDL() {
	_, down, err := metadata.Table{Schema: "app"}.DDL()
	fmt.Print(down)
	fmt.Println(err)
	// Output:
	// DROP FUNCTION IF EXISTS "app"."lockstore_merge_patch"(pg_catalog.jsonb, pg_catalog.jsonb);
	// DROP TABLE IF EXISTS "app"."lockstore_metadata";
	// <nil>
}
