package main

import (
	"context"
	"fmt"
	"net/url"

	"example.com/lockstore/pgtest"
)

// db runs a database of package pgtest until the program ends.
func (c *call) db() func(context.Context, []string) error {
	durable := c.flags.Bool("durable", false, "use PostgreSQL's own defaults, and data on disk")
	tcp := c.flags.Bool("tcp", false, "start a separate server that listens at 127.0.0.1, for drivers without Unix sockets")
	migrate := c.flags.Bool("migrate", false, "create the default table")
	return func(ctx context.Context, _ []string) (err error) {
		var opts []pgtest.Option
		if *durable {
			opts = append(opts, pgtest.Durable())
		}
		if *tcp {
			opts = append(opts, pgtest.Setting("listen_addresses", "127.0.0.1"))
		}
		server, err := pgtest.Start(ctx, opts...)
		if err != nil {
			return err
		}
		defer func() {
			if closed := server.Close(); err == nil {
				err = closed
			}
		}()
		db, err := server.New(ctx)
		if err != nil {
			return err
		}
		if *migrate {
			up, _, err := c.table.DDL()
			if err != nil {
				return err
			}
			if _, err := db.Pool().Exec(ctx, up); err != nil {
				return err
			}
		}
		address := db.URL()
		if *tcp { // instead of the socket
			at := db.Pool().Config().ConnConfig
			u := url.URL{Scheme: "postgres", User: url.UserPassword(at.User, at.Password), Host: fmt.Sprintf("127.0.0.1:%d", at.Port), Path: at.Database, RawQuery: "sslmode=disable"}
			address = u.String()
		}
		fmt.Fprintln(c.stdout, address)
		fmt.Fprintln(c.stderr, "lockctl: the database is dropped when this is interrupted (Ctrl-C); the URL contains its password")
		<-ctx.Done()
		return nil
	}
}
