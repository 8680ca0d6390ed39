package workload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/lockstore/internal/faults/history"
	"example.com/lockstore/metadata"
)

// Tenancy is a table with the documents of three tenants. Only its tenant may see and write a
// document.
var Tenancy = metadata.Table{Name: "tenancy", Version: "version"}

const tenants, documentsOfEach = "abc", 4

// Settle returns the SQL that creates that table for a role.
func Settle(schema, role string) string {
	return fmt.Sprintf(`CREATE TABLE %[1]s.tenancy (id text PRIMARY KEY, tenant text, metadata jsonb NOT NULL DEFAULT '{}', version bigint NOT NULL DEFAULT 0);
		INSERT INTO %[1]s.tenancy SELECT tenant || n, tenant FROM generate_series(1, %[3]d) AS n, string_to_table('%[4]s', NULL) AS tenant;
		CREATE POLICY own ON %[1]s.tenancy USING (tenant = current_setting('app.tenant', true));
		ALTER TABLE %[1]s.tenancy ENABLE ROW LEVEL SECURITY;
		ALTER TABLE %[1]s.tenancy FORCE ROW LEVEL SECURITY;
		ALTER TABLE %[1]s.tenancy OWNER TO %[2]s`, schema, role, documentsOfEach, tenants)
}

// Trespasses is SQL that counts the values that tenants have written into documents of others.
func Trespasses(schema string) string {
	return "SELECT count(*) FROM " + schema + ".tenancy, jsonb_object_keys(metadata) AS key WHERE left(key, 1) <> tenant"
}

type tenantKey struct{}

// TenantOf returns the tenant of a call.
func TenantOf(ctx context.Context) string {
	tenant, _ := ctx.Value(tenantKey{}).(string)
	return tenant
}

// Prepare tells the server for which tenant a connection is used.
func Prepare(ctx context.Context, conn *pgx.Conn) (bool, error) {
	_, err := conn.Exec(ctx, "SELECT pg_catalog.set_config('app.tenant', $1, false)", TenantOf(ctx))
	return err == nil, err
}

// Rights runs workers that write each other's documents until ctx ends, in a store of the
// tenancy whose connections are prepared.
func Rights(ctx context.Context, store *metadata.Postgres, to *history.Recorder, workers int, c Config) {
	var group sync.WaitGroup
	for n := range workers {
		r := rand.New(rand.NewPCG(c.Seed, uint64(c.Process)<<32|uint64(n)))
		group.Go(func() {
			for ctx.Err() == nil {
				rightsOf(ctx, store, to, n, c, r)
			}
		})
	}
	group.Wait()
}

// rightsOf makes a call of one tenant, for one document or several.
func rightsOf(ctx context.Context, store *metadata.Postgres, to *history.Recorder, n int, c Config, r *rand.Rand) {
	tenant := string(tenants[r.IntN(len(tenants))])
	ctx, cancel := context.WithTimeout(context.WithValue(context.WithoutCancel(ctx), tenantKey{}, tenant), c.Patience)
	defer cancel()
	var events []history.Event
	var patches []metadata.Patch
	for range 1 + r.IntN(8)/7*3 {
		owner := string(tenants[r.IntN(len(tenants))])
		kind := history.Trespass
		if owner == tenant {
			kind = history.Rightful
		}
		id := fmt.Sprint(owner, 1+r.IntN(documentsOfEach))
		field := fmt.Sprintf("%s%d_%d", tenant, c.Process, n)
		events = append(events, to.Begin(history.Event{Worker: n, Kind: kind, Key: id, Field: field}))
		patches = append(patches, metadata.Patch{ID: id, Patch: fmt.Appendf(nil, `{%q:%d}`, field, r.Uint32())})
	}
	results := make([]metadata.Result, 1)
	switch p := patches[0]; {
	case len(patches) > 1:
		results, _ = store.MergeMany(ctx, patches)
	case r.IntN(8) == 0:
		results[0].Document, results[0].Err = store.Update(ctx, p.ID, func(metadata.Document) (json.RawMessage, error) { return p.Patch, nil })
	default:
		results[0].Document, results[0].Err = store.Merge(ctx, p.ID, p.Patch)
	}
	for i, e := range events {
		e.Return = time.Now()
		switch err := results[i].Err; {
		case err == nil:
			e.Outcome, e.Version = history.OK, results[i].Document.Version
		case errors.Is(err, metadata.ErrNotFound), errors.Is(err, metadata.ErrRejected):
			e.Outcome, e.Error = history.Refused, err.Error()
		case errors.Is(err, metadata.ErrUnknownOutcome):
			e.Error = err.Error()
		default:
			e.Outcome, e.Error = history.Failed, err.Error()
			time.Sleep(restAfter(err, r))
		}
		to.Record(e)
	}
}
