package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

func (c *call) docsGet() func(context.Context, []string) error {
	c.reaching()
	c.storing()
	c.flags.BoolVar(&c.json, "json", false, "print JSON with version and time")
	return func(ctx context.Context, args []string) error {
		return c.withStore(ctx, func(ctx context.Context, _ *pgxpool.Pool, s *metadata.Postgres) error {
			doc, err := s.Get(ctx, args[0])
			if err != nil {
				return err
			}
			return c.printDocument(doc)
		})
	}
}

func (c *call) docsWatch() func(context.Context, []string) error {
	c.reaching()
	c.storing()
	c.flags.BoolVar(&c.json, "json", false, "print JSON with version and time")
	return func(ctx context.Context, args []string) error {
		c.log = slog.New(slog.NewTextHandler(c.stderr, nil)) // shows why it waits
		return c.withLastingStore(ctx, func(ctx context.Context, _ *pgxpool.Pool, s *metadata.Postgres) error {
			if err := c.reach(ctx, s, args[0]); err != nil {
				return err
			}
			for doc, err := range s.Watch(ctx, args[0]) {
				switch {
				case ctx.Err() != nil:
					return nil // interrupted: the normal end
				case err != nil:
					return err
				case c.terminal && !c.json:
					fmt.Fprintln(c.stdout, heading(doc))
					if doc.Metadata == nil {
						continue
					}
				}
				if err := c.printDocument(doc); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

// reach returns an error if the document cannot be read, because Watch would wait until it
// can be. The document may be missing.
func (c *call) reach(ctx context.Context, s *metadata.Postgres, id string) error {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if _, err := s.Get(ctx, id); !errors.Is(err, metadata.ErrNotFound) {
		return err
	}
	return nil
}

// heading returns the line before a state on a terminal.
func heading(doc metadata.Document) string {
	now := time.Now().Format(time.TimeOnly)
	if doc.Metadata == nil {
		return now + ", no document"
	}
	return fmt.Sprintf("%s, version %d", now, doc.Version)
}

func (c *call) docsMerge() func(context.Context, []string) error {
	c.reaching()
	c.storing()
	c.flags.BoolVar(&c.json, "json", false, "print JSON with version and time")
	version := c.flags.Int64("if-version", -1, "merge only into this `version`; 0: only if there is no document yet")
	return func(ctx context.Context, args []string) error {
		var patch []byte
		var err error
		if len(args) > 1 && args[1] != "-" {
			patch = []byte(args[1])
		} else if patch, err = io.ReadAll(c.stdin); err != nil {
			return err
		}
		return c.withStore(ctx, func(ctx context.Context, _ *pgxpool.Pool, s *metadata.Postgres) error {
			if *version >= 0 {
				s = s.IfVersion(*version)
			}
			doc, err := s.Merge(ctx, args[0], patch)
			if err != nil {
				return err
			}
			return c.printDocument(doc)
		})
	}
}

// printDocument writes a document, indented on a terminal and otherwise in one line.
func (c *call) printDocument(doc metadata.Document) error {
	var what any = doc.Metadata
	if c.json {
		of := map[string]any{"id": doc.ID, "metadata": doc.Metadata, "version": doc.Version}
		if !doc.UpdatedAt.IsZero() {
			of["updated_at"] = doc.UpdatedAt
		}
		what = of
	}
	out := json.NewEncoder(c.stdout)
	out.SetEscapeHTML(false)
	if c.terminal {
		out.SetIndent("", "  ")
	}
	return out.Encode(what)
}

func (c *call) check() func(context.Context, []string) error {
	c.reaching()
	c.storing()
	c.flags.BoolVar(&c.json, "json", false, "print JSON")
	return func(ctx context.Context, _ []string) error {
		return c.withLocker(ctx, func(ctx context.Context, pool *pgxpool.Pool, l *lock.Postgres) error {
			ctx, cancel := context.WithTimeout(ctx, c.timeout)
			defer cancel()
			found, err := l.Check(ctx)
			if err != nil {
				return err
			}
			store, err := c.openStore(pool)
			if err != nil {
				return err
			}
			defer store.Close()
			more, err := store.Check(ctx)
			if err != nil {
				return err
			}
			return c.printFindings(append(found, more...))
		})
	}
}

func (c *call) printFindings(found []lock.Finding) error {
	type finding struct {
		Setting string `json:"setting"`
		Value   string `json:"value"`
		Want    string `json:"want"`
		Why     string `json:"why"`
	}
	all := []finding{}
	for _, f := range found {
		all = append(all, finding(f))
		switch {
		case c.json: // below, all at once
		case c.terminal:
			fmt.Fprintf(c.stdout, "• %s\n", f)
		default:
			c.line(c.stdout, f.Setting, f.Value, f.Want, f.Why)
		}
	}
	if c.json {
		if err := json.NewEncoder(c.stdout).Encode(all); err != nil {
			return err
		}
	}
	if len(found) > 0 {
		return errNo
	}
	return nil
}

func (c *call) migrateUp() func(context.Context, []string) error {
	c.reaching()
	c.storing()
	return func(ctx context.Context, _ []string) error {
		return c.withStore(ctx, func(ctx context.Context, _ *pgxpool.Pool, s *metadata.Postgres) error { return s.Migrate(ctx) })
	}
}

func (c *call) migrateDown() func(context.Context, []string) error {
	c.reaching()
	c.storing()
	yes := c.flags.Bool("yes", false, "drop it: the documents of the default table are lost")
	return func(ctx context.Context, _ []string) error {
		_, down, err := c.ddl()
		if err != nil {
			return err
		}
		if !*yes {
			return wrong("migrate down would run this; say -yes if it is to:\n%s", down)
		}
		return c.withStore(ctx, func(ctx context.Context, pool *pgxpool.Pool, _ *metadata.Postgres) error {
			_, err := pool.Exec(ctx, down) // several statements in one transaction
			return err
		})
	}
}

func (c *call) migratePrint() func(context.Context, []string) error {
	c.storing()
	takeBack := c.flags.Bool("down", false, "print the SQL of migrate down")
	return func(context.Context, []string) error {
		up, down, err := c.ddl()
		if *takeBack {
			up = down
		}
		fmt.Fprint(c.stdout, up)
		return err
	}
}

func (c *call) ddl() (up, down string, err error) {
	if err := c.completeTable(); err != nil {
		return "", "", err
	}
	return c.table.DDL()
}
