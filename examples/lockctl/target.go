package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

// A target is a database and a table in it.
type target struct {
	dsn, dsnFile string
	timeout      time.Duration
	table        metadata.Table
	idType       string
	scopes       []metadata.Scope
	inGo         bool
}

// reaching adds the flags for the database.
func (c *call) reaching() {
	c.flags.StringVar(&c.dsn, "dsn", "", "the database: a `URL` or keyword=value list without a password; overrides LOCKSTORE_DSN")
	c.flags.StringVar(&c.dsnFile, "dsn-file", "", "a `file` with the database's URL or list, with or without a password")
	c.flags.DurationVar(&c.timeout, "timeout", 10*time.Second, "how long to wait for the database")
	c.flags.StringVar(&c.namespace, "namespace", "", "the application's `namespace` of keys")
}

// storing adds the flags for the table of documents.
func (c *call) storing() {
	t := &c.table
	c.flags.StringVar(&t.Name, "table", "", "the table's `name`; the default table if empty")
	c.flags.StringVar(&t.Schema, "schema", "", "the table's schema; found on the search path if empty")
	c.flags.StringVar(&t.Owner, "owner", "", "a `role` whose objects are trusted")
	c.flags.StringVar(&t.ID, "id", "", `the id's column (default "id")`)
	c.flags.StringVar(&c.idType, "id-type", "text", "the id's type: text, uuid or bigint")
	c.flags.StringVar(&t.Column, "column", "", `the jsonb column (default "metadata")`)
	c.flags.StringVar(&t.Version, "version", "", "the column that counts changes")
	c.flags.StringVar(&t.UpdatedAt, "updated", "", "the column with the time of the last change")
	c.flags.BoolVar(&t.Create, "create", false, "writes create missing rows")
	c.flags.BoolVar(&c.inGo, "merge-in-go", false, "merge in Go, without the merge function")
	c.flags.Func("scope", "use only rows with `column=value` (or column:uuid=value, column:bigint=value); can be repeated", func(s string) error {
		column, value, ok := strings.Cut(s, "=")
		if !ok {
			return errors.New("want column=value")
		}
		column, typ, _ := strings.Cut(column, ":")
		of, err := typeNamed(typ)
		c.scopes = append(c.scopes, metadata.Scope{Column: column, Type: of, Value: value})
		return err
	})
}

func typeNamed(name string) (metadata.Type, error) {
	switch name {
	case "", "text":
		return metadata.Text, nil
	case "uuid", "bigint":
		return metadata.Type(name), nil
	}
	return "", fmt.Errorf("type %.20q: want text, uuid or bigint", name)
}

// secret finds a password in a keyword=value list.
var secret = regexp.MustCompile(`(?i)password\s*=`)

// hasPassword reports whether a DSN may contain a password, which every user of the machine
// could read in the list of processes.
func hasPassword(dsn string) bool {
	if !strings.Contains(dsn, "://") {
		return secret.MatchString(dsn)
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return true
	}
	_, has := u.User.Password()
	for name := range u.Query() {
		has = has || strings.HasSuffix(strings.ToLower(name), "password")
	}
	return has || isAmbiguous(dsn)
}

// isAmbiguous reports whether a URL has an unescaped @ other than the one after name and
// password: a part of the password would be taken for a host, which errors show.
func isAmbiguous(dsn string) bool {
	_, rest, isURL := strings.Cut(dsn, "://")
	authority := rest
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		authority = rest[:end]
	}
	n := strings.Count(rest, "@")
	return isURL && (n > 1 || n != strings.Count(authority, "@"))
}

// address returns the DSN to use; "" leaves it to libpq's variables.
func (c *call) address() (string, error) {
	switch {
	case c.dsn != "" && c.dsnFile != "":
		return "", wrong("choose one of -dsn and -dsn-file")
	case hasPassword(c.dsn):
		return "", wrong("-dsn has a password, which everybody on this machine could read in the list of processes by now: change it, and use LOCKSTORE_DSN, -dsn-file or PGPASSFILE")
	case c.dsn != "":
		return c.dsn, nil
	case c.dsnFile != "":
		text, err := os.ReadFile(c.dsnFile)
		return strings.TrimSpace(string(text)), err
	}
	return c.env("LOCKSTORE_DSN"), nil
}

// pool opens a pool, which connects on first use. The caller closes it.
func (c *call) pool(ctx context.Context) (*pgxpool.Pool, error) {
	dsn, err := c.address()
	if err != nil {
		return nil, err
	}
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil || isAmbiguous(dsn) { // err may quote the DSN
		return nil, wrong("the database's address cannot be read: want a URL, in which @, :, / and # in a password are escaped, or a keyword=value list")
	}
	config.MaxConns, config.PingTimeout = 4, 2*time.Second // so that Check has no findings about the pool
	if config.ConnConfig.ConnectTimeout == 0 {
		config.ConnConfig.ConnectTimeout = c.timeout
	}
	if config.ConnConfig.RuntimeParams["application_name"] == "" {
		config.ConnConfig.RuntimeParams["application_name"] = "lockctl"
	}
	return pgxpool.NewWithConfig(ctx, config)
}

// withLocker calls do with a Locker.
func (c *call) withLocker(ctx context.Context, do func(context.Context, *pgxpool.Pool, *lock.Postgres) error) error {
	pool, err := c.pool(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	connecting, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	locker, err := lock.NewPostgres(connecting, pool, nil)
	if err != nil {
		return err
	}
	defer locker.Close(context.WithoutCancel(ctx))
	return do(ctx, pool, locker)
}

// withStore calls do with a store, within the time limit.
func (c *call) withStore(ctx context.Context, do func(context.Context, *pgxpool.Pool, *metadata.Postgres) error) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	return c.withLastingStore(ctx, do)
}

// withLastingStore calls do with a store, without a time limit.
func (c *call) withLastingStore(ctx context.Context, do func(context.Context, *pgxpool.Pool, *metadata.Postgres) error) error {
	pool, err := c.pool(ctx)
	if err != nil {
		return err
	}
	defer pool.Close()
	store, err := c.openStore(pool)
	if err != nil {
		return err
	}
	defer store.Close()
	return do(ctx, pool, store)
}

func (c *call) openStore(pool *pgxpool.Pool) (*metadata.Postgres, error) {
	if err := c.completeTable(); err != nil {
		return nil, err
	}
	return metadata.NewPostgres(pool, &metadata.Options{Table: c.table, Namespace: lock.Namespace(c.namespace), MergeInGo: c.inGo, Logger: c.log})
}

// completeTable adds to the table what its flags say in text.
func (c *call) completeTable() (err error) {
	c.table.Scope = c.scopes
	if c.table.IDType, err = typeNamed(c.idType); err != nil {
		return wrong("-id-type: %s", err)
	}
	return nil
}
