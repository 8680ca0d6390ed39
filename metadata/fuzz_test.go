package metadata_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// FuzzMergePatchAgainstPostgres holds three against each other: the merge in
// Go, the one in SQL, and what a store answers, the last two to the byte.
func FuzzMergePatchAgainstPostgres(f *testing.F) {
	db := pgtest.New(f)
	postgres, err := metadata.NewPostgres(db.Pool(), nil)
	require.NoError(f, err)
	f.Cleanup(postgres.Close)
	require.NoError(f, postgres.Migrate(f.Context()))
	memory, err := metadata.NewMemory(nil, nil)
	require.NoError(f, err)
	for _, c := range rfc7396(f) {
		f.Add([]byte(c.Target), []byte(c.Patch))
	}
	f.Add([]byte(`{"b":{"c":12345678901234567890.10},"a":[null]}`), []byte(`{"b":{"c":null,"dd":{}},"\ud83d\ude00":-0.0}`))
	f.Add([]byte(`{"a":{"b":{"c":1,"d":2}},"x":1}`), []byte(`{"a":{"b":{"c":null},"e":{"f":null}},"y":[{"z":null}]}`))
	f.Add([]byte(`{"a":"\u001f\/","n":1E-3}`), []byte(`{"aa":"\"\\","n":-2.50e1}`))
	f.Fuzz(func(t *testing.T, target, patch []byte) {
		merged, err := metadata.MergePatch(target, patch)
		if err != nil || len(target) == 0 {
			return
		}
		var inSQL, inGo string
		err = db.Pool().QueryRow(t.Context(), `SELECT lockstore_merge_patch($1::text::jsonb, $2::text::jsonb)::text, $3::text::jsonb::text`,
			string(target), string(patch), string(merged)).Scan(&inSQL, &inGo)
		if err != nil {
			return // numbers that PostgreSQL does not keep
		}
		assert.Equal(t, inSQL, inGo)

		if _, err := memory.Replace(t.Context(), "a", json.RawMessage(target)); err != nil {
			return
		}
		if doc, err := memory.Merge(t.Context(), "a", json.RawMessage(patch)); err == nil {
			assert.Equal(t, inSQL, string(doc.Metadata))
		}
	})
}
