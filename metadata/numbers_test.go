package metadata_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
	"example.com/lockstore/metadata/internal/jsonb/jsonbtest"
	"example.com/lockstore/pgtest"
)

// replaced is what a new document becomes, or the error that refuses it.
func replaced(t testing.TB, document string) (string, error) {
	t.Helper()
	store, err := metadata.NewMemory(nil, nil)
	require.NoError(t, err)
	a := begin(func() (metadata.Document, error) { return store.Replace(t.Context(), "a", raw("%s", document)) }).wait(t, document)
	require.Nil(t, a.panicked, document)
	return string(a.doc.Metadata), a.err
}

// isBeyond reports whether a number's exponent is one that PostgreSQL 15 takes of no
// number, and later releases take of zero.
func isBeyond(number string) bool {
	_, exponent, found := strings.Cut(strings.ToLower(number), "e")
	n, err := strconv.ParseInt(exponent, 10, 64)
	return found && (err != nil || max(n, -n) >= 1<<30-1)
}

// Whatever number one writes, it is stored as the server would, or refused; and
// refused only if the server does, or if it stands for very many digits.
func TestNumbersAreWhatPostgresMakesOfThem(t *testing.T) {
	db := pgtest.New(t)
	_, err := db.Pool().Exec(t.Context(), `CREATE FUNCTION try(t text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN
		RETURN t::jsonb::text; EXCEPTION WHEN OTHERS THEN RETURN ''; END $$`)
	require.NoError(t, err)
	all := jsonbtest.Numbers()
	var server []string
	require.NoError(t, db.Pool().QueryRow(t.Context(),
		`SELECT array_agg(try(t) ORDER BY n) FROM unnest($1::text[]) WITH ORDINALITY AS u (t, n)`, all).Scan(&server))
	kept := 0
	for i, number := range all {
		name := number[:min(len(number), 40)]
		got, err := replaced(t, `{"a":`+number+`}`)
		digits := len(strings.Trim(server[i], "-")) - strings.Count(server[i], ".")
		switch {
		case err == nil:
			kept++
			assert.Equal(t, `{"a": `+server[i]+`}`, got, "%s…", name)
		case !errors.Is(err, metadata.ErrInvalidPatch):
			assert.NoError(t, err, name)
		default:
			assert.True(t, server[i] == "" || digits > 1024 || isBeyond(number), "%s… is refused", name)
		}
		if t.Failed() {
			break // one is enough to read
		}
	}
	assert.Greater(t, kept, len(all)/20)
}

// hugePatches do not stand for anything that could be stored.
func hugePatches() (patches []json.RawMessage) {
	for _, number := range []string{
		"1e9223372036854775807", "12e9223372036854775806", "0.1e-9223372036854775807", "1e-9223372036854775807",
		"0e9223372036854775807", "-0.0e9223372036854775807", "1e2147483647", "0e2147483647", "1e18446744073709551615",
	} {
		for _, patch := range []string{`{"a":%s}`, `{"a":[%s]}`, `{"a":{"b":%s}}`, `{"a":[{"b":1},%s]}`} {
			patches = append(patches, raw(patch, number))
		}
	}
	return patches
}

// No way into a store takes a number that none can hold.
func TestNoOperationTakesHugeNumbers(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		ctx := t.Context()
		store, inGo := d.migrated(t, nil), d.store(t, &metadata.Options{MergeInGo: true})
		memory, err := metadata.NewMemory(nil, nil)
		require.NoError(t, err)
		tx, commit := d.hostTx(t)
		in := store.In(tx)
		deciding := func(s metadata.MetadataStore) func(p json.RawMessage) error {
			return func(p json.RawMessage) error {
				_, err := s.Update(ctx, "a", func(metadata.Document) (json.RawMessage, error) { return p, nil })
				return err
			}
		}
		merge := func(s metadata.MetadataStore) func(p json.RawMessage) error {
			return func(p json.RawMessage) error { _, err := s.Merge(ctx, "a", p); return err }
		}
		for name, operation := range map[string]func(p json.RawMessage) error{
			"Merge":             merge(store),
			"Merge in Go":       merge(inGo),
			"Merge of a view":   merge(store.IfVersion(1)),
			"Merge in tx":       merge(in),
			"Merge in memory":   merge(memory),
			"Update":            deciding(store),
			"Update in tx":      deciding(in),
			"Update in memory":  deciding(memory),
			"Replace":           func(p json.RawMessage) error { _, err := store.Replace(ctx, "a", p); return err },
			"Replace in tx":     func(p json.RawMessage) error { _, err := in.Replace(ctx, "a", p); return err },
			"Replace in memory": func(p json.RawMessage) error { _, err := memory.Replace(ctx, "a", p); return err },
			"MergeValue":        func(p json.RawMessage) error { _, err := metadata.MergeValue(ctx, store, "a", p); return err },
			"Find":              func(p json.RawMessage) error { _, err := find(ctx, store, string(p), nil); return err },
			"MergeMany": func(p json.RawMessage) error {
				results, err := store.MergeMany(ctx, []metadata.Patch{{ID: "fine", Patch: raw(`{"n":1}`)}, {ID: "a", Patch: p}})
				assert.NoError(t, results[0].Err)
				return err
			},
		} {
			for _, p := range hugePatches() {
				a := begin(func() (metadata.Document, error) { return metadata.Document{}, operation(p) }).wait(t, name+" "+string(p))
				require.Nil(t, a.panicked, "%s %s", name, p)
				require.ErrorIs(t, a.err, metadata.ErrInvalidPatch, "%s %s", name, p)
			}
		}
		require.NoError(t, commit())
		for _, s := range []metadata.MetadataStore{store, memory} {
			_, err = s.Get(ctx, "a")
			assert.ErrorIs(t, err, metadata.ErrNotFound)
		}
	})
}

// MergePatch keeps numbers' text, whatever they stand for.
func TestMergePatchKeepsHugeNumbers(t *testing.T) {
	for _, p := range hugePatches() {
		got, err := metadata.MergePatch(nil, p)
		require.NoError(t, err)
		assert.Equal(t, string(p), strings.ReplaceAll(string(got), " ", ""))
	}
}

// What one caller's patch says stops nobody who would share a commit with it, nor
// a connection: it has been read before they meet.
func TestHugeNumbersHarmNobodyElse(t *testing.T) {
	check := func(t *testing.T, calls []pending, harmful func(i int) bool) {
		for i, p := range calls {
			a := p.wait(t, fmt.Sprint("call ", i))
			assert.Nil(t, a.panicked, i)
			if harmful(i) {
				assert.ErrorIs(t, a.err, metadata.ErrInvalidPatch, i)
			} else {
				assert.NoError(t, a.err, i)
			}
		}
	}
	patches := hugePatches()
	harmful := func(i int) bool { return i > 0 && i%5 == 0 }
	patch := func(i int) string {
		if harmful(i) {
			return string(patches[i/5%len(patches)])
		}
		return fmt.Sprintf(`{"k%d":1}`, i)
	}
	t.Run("of one document", func(t *testing.T) {
		eachDriver(t, func(t *testing.T, d *database) {
			b := newBlocked(t, d, nil)
			calls := []pending{begin(func() (metadata.Document, error) { return merging(b.store, patch(0))(t.Context()) })}
			waitForRow(t, d)
			for i := 1; i < 60; i++ {
				calls = append(calls, lineUpOrEnd(t, merging(b.store, patch(i))))
			}
			b.unblock()
			check(t, calls, harmful)
			assert.Equal(t, 49, strings.Count(string(b.document().Metadata), `"k`))
		})
	})
	t.Run("of different documents", func(t *testing.T) {
		eachCrowded(t, nil, func(d *database, c *crowded) {
			var calls []pending
			for i := range 20 {
				calls = append(calls, lineUpOrEnd(t, func(ctx context.Context) (metadata.Document, error) {
					return c.store.Merge(ctx, fmt.Sprintf("d%02d", i), raw("%s", patch(i)))
				}))
			}
			c.unblock()
			check(c.T, calls, harmful)
			var made int
			require.NoError(c, d.Pool().QueryRow(c.Context(), `SELECT count(*) FROM docs WHERE metadata::text LIKE '%"k%'`).Scan(&made))
			assert.Equal(c, 17, made)
		})
	})
}

// lineUpOrEnd makes a call beside the test, and returns when it waits or has ended.
func lineUpOrEnd(t *testing.T, call func(context.Context) (metadata.Document, error)) pending {
	watched := newArriving(t.Context())
	p := begin(func() (metadata.Document, error) {
		defer watched.Done()
		return call(watched)
	})
	select {
	case <-watched.arrived:
	case <-time.After(patience):
		assert.Fail(t, "it neither waits nor ends")
	}
	return p
}

// A Timeout has 64 bits everywhere, also where an int has 32 and 3 s would be negative.
func TestTimeoutsOfAnyLength(t *testing.T) {
	for _, timeout := range []time.Duration{1, 2 * time.Second, 3 * time.Second, 5 * time.Second, time.Hour, 1<<63 - 1} {
		_, err := metadata.NewMemory(nil, &metadata.Options{Timeout: timeout})
		assert.NoError(t, err, timeout)
	}
}
