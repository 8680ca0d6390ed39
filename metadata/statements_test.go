package metadata

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/simulate"
)

// testdata/statements.sql has what the server is sent, to be read whole, for the
// default table and for a host's own.
func TestStatementsAsTheServerGetsThem(t *testing.T) {
	var got strings.Builder
	for _, table := range []Table{{}, {
		Schema: "app", Name: "users", ID: "email", Column: "profile", Version: "revision", UpdatedAt: "changed",
		Scope: []Scope{{Column: "tenant", Type: UUID, Value: "7f3f9a3e-0000-4000-8000-00000000000a"}},
	}} {
		o, err := (&Options{Table: table}).withDefaults()
		require.NoError(t, err)
		sql := newStatements(&o)
		for _, s := range []struct {
			name string
			statement
		}{
			{"Get", sql.get}, {"GetMany", sql.getMany}, {"Find, first page", sql.findFirst}, {"Find, next page", sql.findAfter},
			{"Merge, alone", sql.merge}, {"MergeMany", sql.mergeMany}, {"MergeMany, what is free", sql.mergeManyFree},
			{"MergeMany of larger documents, and merges that share a connection", sql.mergeFree},
			{"MergeMany, what is missing", sql.createMany},
			{"write: lock", sql.taking.open}, {"write: create", sql.taking.insert}, {"write: store", sql.taking.save}, {"Delete", sql.taking.remove},
			{"write under a hold: lock", sql.under.open}, {"write under a hold: create", sql.under.insert},
			{"write under a hold: store", sql.under.save}, {"Delete under a hold", sql.under.remove},
		} {
			fmt.Fprintf(&got, "-- %s.%s: %s\n%s\n\n", o.Table.Schema, o.Table.Name, s.name, strings.TrimSpace(s.text))
			assert.NotContains(t, strings.ReplaceAll(s.text, "'{}'", ""), "{", "%s: nothing is left to be filled in", s.name)
		}
	}
	simulate.Golden(t, "testdata/statements.sql", got.String())
}
