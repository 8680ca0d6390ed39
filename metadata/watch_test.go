package metadata_test

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
)

func TestRowDeletedInMidMerge(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		for _, create := range []bool{true, false} {
			for _, inGo := range []bool{true, false} {
				d.exec(t, guarded)
				opts := guardedOptions(inGo)
				store := d.migrated(t, opts)
				_, err := store.Merge(t.Context(), "a", raw(`{"old":1}`))
				require.NoError(t, err)
				opts.Table.Create = create
				store = d.store(t, opts)
				host, err := d.Pool().Begin(t.Context())
				require.NoError(t, err)
				_, err = host.Exec(t.Context(), "DELETE FROM guarded")
				require.NoError(t, err)
				failed := make(chan error)
				go func() {
					_, err := store.Merge(t.Context(), "a", raw(`{"new":1}`))
					failed <- err
				}()
				waitForRow(t, d)
				require.NoError(t, host.Commit(t.Context()))
				err = <-failed
				if !create {
					assert.ErrorIs(t, err, metadata.ErrNotFound)
					continue
				}
				require.NoError(t, err)
				doc, err := store.Get(t.Context(), "a")
				require.NoError(t, err)
				assert.Equal(t, `{"new": 1}`, string(doc.Metadata))
			}
		}
	})
}
