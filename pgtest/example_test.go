package pgtest_test

import (
	"context"
	"fmt"
	"log"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/lockstore/pgtest"
)

// A program starts a server, creates a database and closes the server.
func ExampleStart() {
	ctx := context.Background()
	srv, err := pgtest.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close()
	db, err := srv.New(ctx)
	if err != nil {
		log.Fatal(err)
	}
	var sum int
	if err := db.Pool().QueryRow(ctx, "SELECT 40 + 2").Scan(&sum); err != nil {
		log.Fatal(err)
	}
	fmt.Println(sum)
	// Output: 42
}

// The schema is built once on a server; each database is a copy of it.
func ExampleTemplate() {
	schema := pgtest.Template("users, 1", func(ctx context.Context, pool *pgxpool.Pool) error {
		_, err := pool.Exec(ctx, "CREATE TABLE users (name text PRIMARY KEY)")
		return err
	})
	ctx := context.Background()
	srv, err := pgtest.Start(ctx)
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close()
	for range 2 {
		db, err := srv.New(ctx, schema)
		if err != nil {
			log.Fatal(err)
		}
		tag, err := db.Pool().Exec(ctx, "INSERT INTO users VALUES ('ann')")
		fmt.Println(tag, err)
	}
	// Output:
	// INSERT 0 1 <nil>
	// INSERT 0 1 <nil>
}

// A dedicated server can be killed and restarted; commits survive.
func ExampleServer_Kill() {
	ctx := context.Background()
	srv, err := pgtest.Start(ctx, pgtest.Dedicated(), pgtest.Setting("max_connections", "20"))
	if err != nil {
		log.Fatal(err)
	}
	defer srv.Close()
	for _, step := range []func(context.Context) error{srv.Kill, srv.Restart} {
		if err := step(ctx); err != nil {
			log.Fatal(err)
		}
	}
	conn, err := pgx.Connect(ctx, srv.URL())
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close(ctx)
	var max string
	err = conn.QueryRow(ctx, "SHOW max_connections").Scan(&max)
	fmt.Println(max, err)
	// Output: 20 <nil>
}
