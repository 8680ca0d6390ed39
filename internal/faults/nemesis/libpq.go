package main

import (
	"context"
	"database/sql"
	"net"
	"net/url"
	"time"

	"github.com/lib/pq"
)

// openLibPQ opens the database over lib/pq, as role app.
func openLibPQ(address, searchPath string, silence time.Duration) (*sql.DB, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	u.User = url.UserPassword(app, app)
	settings := u.Query()
	settings.Set("search_path", searchPath)
	settings.Set("connect_timeout", "10")
	u.RawQuery = settings.Encode()
	connector, err := pq.NewConnector(u.String())
	if err != nil {
		return nil, err
	}
	connector.Dialer(&dialer{silence: silence})
	db := sql.OpenDB(connector)
	db.SetMaxOpenConns(6)
	return db, nil
}

// A dialer limits how long lib/pq waits for a network that hangs.
type dialer struct {
	net.Dialer
	silence time.Duration
}

func (d *dialer) DialTimeout(network, address string, timeout time.Duration) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	return d.DialContext(ctx, network, address)
}

func (d *dialer) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := d.Dialer.DialContext(ctx, network, address)
	if err != nil {
		return nil, err
	}
	return bounded{conn, d.silence}, nil
}

// bounded is a connection with a read deadline for the server's answers.
type bounded struct {
	net.Conn
	silence time.Duration
}

func (b bounded) Read(p []byte) (int, error) {
	if err := b.SetReadDeadline(time.Now().Add(b.silence)); err != nil {
		return 0, err
	}
	return b.Conn.Read(p)
}
