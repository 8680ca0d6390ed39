package metadata_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
	"example.com/lockstore/metadata/internal/jsonb/jsonbtest"
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
	for _, c := range jsonbtest.RFC7396() {
		f.Add([]byte(c.Target), []byte(c.Patch))
	}
	f.Add([]byte(`{"b":{"c":12345678901234567890.10},"a":[null]}`), []byte(`{"b":{"c":null,"dd":{}},"\ud83d\ude00":-0.0}`))
	f.Add([]byte(`{"a":{"b":{"c":1,"d":2}},"x":1}`), []byte(`{"a":{"b":{"c":null},"e":{"f":null}},"y":[{"z":null}]}`))
	f.Add([]byte(`{"a":"\u001f\/","n":1E-3}`), []byte(`{"aa":"\"\\","n":-2.50e1}`))
	for _, number := range []string{
		"0e127", "-0E+128", "1e255", "0e-256", "1e32767", "0e32768", "-1.5e65535", "0.0e-65536", "0e1073741822", "-0.00e1073741823",
		"0e2147483647", "1e2147483647", "12e2147483646", "0.1e-2147483647", "-1e-2147483648", "0e4294967295", "1.0e4294967296",
		"0e9223372036854775807", "1e9223372036854775807", "12e9223372036854775806", "0.1e-9223372036854775807",
		"-1.0e-9223372036854775808", "0e18446744073709551615", "1e18446744073709551616", "1e340282366920938463463374607431768211456",
		"1e0000000001", "0e-00000000000000000000000000000000", "1e00009223372036854775807", "0e5", "0.000e-7", "-0e1", "1e1023", "1e1024", "1e-1023",
	} {
		f.Add([]byte(`{"a":0}`), []byte(`{"a":`+number+`}`))
		f.Add([]byte(`{"a":[`+number+`]}`), []byte(`{"b":{"c":[0,`+number+`]}}`))
	}
	for _, element := range []string{"1e999", "0e-999", "[]", "{}", `"\""`, "1"} { // what is long costs no more than its length
		f.Add([]byte(`{}`), []byte(`{"a":[`+strings.Repeat(element+",", 64_000/(len(element)+1)-2)+`1]}`))
	}
	f.Fuzz(func(t *testing.T, target, patch []byte) {
		var merged json.RawMessage
		var err error
		jsonbtest.Quickly(t, len(target)+len(patch), func() { merged, err = metadata.MergePatch(target, patch) })
		checkStored(t, db, patch)
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

// checkStored compares what a store makes of a document with what the server does.
func checkStored(t *testing.T, db *pgtest.DB, document []byte) {
	var doc metadata.Document
	var err error
	jsonbtest.Quickly(t, len(document), func() {
		store, failed := metadata.NewMemory(nil, nil)
		require.NoError(t, failed)
		doc, err = store.Replace(context.Background(), "a", document)
	})
	if err != nil {
		require.ErrorIs(t, err, metadata.ErrInvalidPatch)
		return
	}
	var printed string
	require.NoError(t, db.Pool().QueryRow(t.Context(), `SELECT $1::text::jsonb::text`, string(document)).Scan(&printed), "it is taken here")
	require.Equal(t, printed, string(doc.Metadata))
}
