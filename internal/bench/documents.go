package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"example.com/lockstore/metadata"
)

const (
	fillSQL = `INSERT INTO ` + metadata.DefaultTable + ` (id, metadata)
		SELECT 'user-' || n, $2::jsonb FROM generate_series(0, $1::int - 1) AS n`

	// Rows that are never written. For a table of one row, PostgreSQL plans to read the whole
	// table, and still does so when thousands of dead versions of that row have made it large.
	// Real tables of documents are not like that.
	neighboursSQL = `INSERT INTO ` + metadata.DefaultTable + ` (id, metadata)
		SELECT 'neighbour-' || n, '{"plan":"free"}' FROM generate_series(1, 1000) AS n`

	// The sum of all versions, without the first version of each document.
	versionsSQL = "SELECT coalesce(sum(version), 0)::bigint FROM " + metadata.DefaultTable
)

// fill replaces the table's content by n documents of about so many bytes each, and some rows
// that are never written.
func (in *arena) fill(ctx context.Context, n, bytes int) error {
	store, err := metadata.NewPostgres(in.monitor, nil)
	if err != nil {
		return err
	}
	defer store.Close()
	if err := store.Migrate(ctx); err != nil {
		return err
	}
	if _, err := in.monitor.Exec(ctx, "TRUNCATE "+metadata.DefaultTable); err != nil {
		return err
	}
	if _, err := in.monitor.Exec(ctx, fillSQL, n, document(bytes)); err != nil {
		return err
	}
	if _, err := in.monitor.Exec(ctx, neighboursSQL); err != nil {
		return err
	}
	_, err = in.monitor.Exec(ctx, "VACUUM (ANALYZE) "+metadata.DefaultTable)
	return err
}

func documentID(n int) string { return fmt.Sprint("user-", n) }

// document returns JSON of about so many bytes: text, numbers and an object.
func document(bytes int) string {
	var s strings.Builder
	s.WriteString(`{"plan":"pro","seats":12,"address":{"city":"Lisbon","zip":"1000-001"}`)
	for i := 0; s.Len() < bytes-30; i++ {
		fmt.Fprintf(&s, `,"attribute%03d":"value number %d"`, i, i*7919)
	}
	return s.String() + "}"
}

// versions returns the sum of all documents' versions.
func versions(ctx context.Context, in *arena) (n int64, err error) {
	err = in.monitor.QueryRow(ctx, versionsSQL).Scan(&n)
	return n, err
}

// missing counts the acknowledged top-level keys that are not in their documents.
func (in *arena) missing(ctx context.Context, acknowledged []proof) (n int64, err error) {
	byID := map[string][]proof{}
	for _, p := range acknowledged {
		byID[p.ID] = append(byID[p.ID], p)
	}
	for id, proofs := range byID {
		var text []byte
		var version int64
		if err := in.monitor.QueryRow(ctx, readSQL, id).Scan(&text, &version); err != nil {
			return 0, err
		}
		var document map[string]json.RawMessage
		if err := json.Unmarshal(text, &document); err != nil {
			return 0, errors.New("a document is not JSON any more: " + err.Error())
		}
		for _, p := range proofs {
			if _, there := document[p.Key]; !there {
				n++
			}
		}
	}
	return n, nil
}

// A proof is a merge of a unique key. If it was acknowledged, the key must be in the document.
type proof struct{ ID, Key string }
