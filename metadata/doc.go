// Package metadata keeps JSON documents in PostgreSQL that many goroutines and
// many processes change at once, by merge patches (RFC 7396), and loses none
// of their changes.
//
//	store, err := metadata.NewPostgres(pool, nil) // a *pgxpool.Pool, *sqlx.DB or *sql.DB
//	…
//	doc, err := store.Merge(ctx, userID, json.RawMessage(`{"plan":"pro","trial":null}`))
//
// The documents are in a table of the store's own, which [Postgres.Migrate]
// creates, or in a column of the host's: see [Table].
package metadata
