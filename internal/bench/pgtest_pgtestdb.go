package main

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"runtime"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/peterldowns/pgtestdb"
)

// pgtestdb measures its New, or what it does when the test ends.
func (d *databases) pgtestdb(making bool) runFunc {
	return func(ctx context.Context, _ *arena, p pace) (*measurement, error) {
		address, err := pgx.ParseConfig(d.server.URL())
		if err != nil {
			return nil, err
		}
		config := pgtestdb.Config{
			DriverName: "pgx", User: address.User, Password: address.Password, Database: address.Database,
			Port:                      fmt.Sprint(address.Port),
			Options:                   url.Values{"host": {address.Host}, "sslmode": {"disable"}}.Encode(),
			ForceTerminateConnections: true,
		}
		once := func() (took time.Duration, err error) {
			var made, ended time.Duration
			err = asTest(func(t *fakeTest) {
				start := time.Now()
				db := pgtestdb.New(t, config, fiftyTables{})
				if _, err := db.ExecContext(ctx, useSQL); err != nil {
					t.Fatalf("%v", err)
				}
				made = time.Since(start)
			}, &ended)
			if making {
				return made, err
			}
			return ended, err
		}
		if _, err := once(); err != nil { // which builds the template
			return nil, err
		}
		return timed(ctx, p, once), nil
	}
}

// fiftyTables is pgtestdb's way to say what is in a database.
type fiftyTables struct{}

func (fiftyTables) Hash() (string, error) { return "bench1", nil }

func (fiftyTables) Migrate(ctx context.Context, db *sql.DB, _ pgtestdb.Config) error {
	_, err := db.ExecContext(ctx, schemaSQL)
	return err
}

// A fakeTest stands in for a *testing.T in a program.
type fakeTest struct {
	cleanups []func()
	failure  error
}

// asTest runs a test and then its cleanups, which took so long.
func asTest(test func(t *fakeTest), ended *time.Duration) error {
	t := &fakeTest{}
	t.alone(func() { test(t) })
	start := time.Now()
	for len(t.cleanups) > 0 {
		last := len(t.cleanups) - 1
		clean := t.cleanups[last]
		t.cleanups = t.cleanups[:last]
		t.alone(clean)
	}
	*ended = time.Since(start)
	return t.failure
}

// alone is for Fatalf, which ends the goroutine.
func (t *fakeTest) alone(do func()) {
	var group sync.WaitGroup
	group.Go(do)
	group.Wait()
}

func (t *fakeTest) Helper()             {}
func (t *fakeTest) Logf(string, ...any) {}
func (t *fakeTest) Failed() bool        { return t.failure != nil }
func (t *fakeTest) Cleanup(f func())    { t.cleanups = append(t.cleanups, f) }
func (t *fakeTest) Fatalf(format string, args ...any) {
	t.failure = fmt.Errorf(format, args...)
	runtime.Goexit()
}
