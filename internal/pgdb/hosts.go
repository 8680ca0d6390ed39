package pgdb

import (
	"cmp"
	"context"
	"errors"
	"path/filepath"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// attemptDelay is how long an attempt may take before the next address is tried, too
// (RFC 8305, section 5), and the interval of retries of addresses that refused.
const attemptDelay = 250 * time.Millisecond

// Connect is pgx.ConnectConfig, except that with several addresses a silent one does not
// delay the others:
//   - The addresses are tried in order. The next attempt starts when one fails, or after
//     attemptDelay.
//   - While an address is silent, those that refused are tried again: a standby, which is
//     refused, may have become the primary.
//   - Each attempt has an equal share of the time that ctx has left, or the host's
//     ConnectTimeout if that is shorter.
func Connect(ctx context.Context, config *pgx.ConnConfig) (*pgx.Conn, error) {
	all := addresses(ctx, config)
	if len(all) == 1 {
		return pgx.ConnectConfig(ctx, all[0])
	}
	deadline, bounded := ctx.Deadline()
	share := time.Until(deadline) / time.Duration(len(all)+1)
	for _, c := range all {
		if bounded {
			c.ConnectTimeout = min(cmp.Or(c.ConnectTimeout, share), share)
		}
		if c.ValidateConnect == nil { // a standby may answer before the primary does
			c.ValidateConnect = pgconn.ValidateConnectTargetSessionAttrsReadWrite
		}
	}
	return connectFirst(ctx, all)
}

// addresses returns one configuration for each address. A configuration may include
// attempts with and without TLS.
func addresses(ctx context.Context, config *pgx.ConnConfig) (all []*pgx.ConnConfig) {
	type host struct {
		name string
		port uint16
	}
	var hosts []host
	ways := make(map[host][]*pgconn.FallbackConfig)
	for _, f := range append([]*pgconn.FallbackConfig{{Host: config.Host, Port: config.Port, TLSConfig: config.TLSConfig}}, config.Fallbacks...) {
		h := host{f.Host, f.Port}
		if ways[h] == nil {
			hosts = append(hosts, h)
		}
		ways[h] = append(ways[h], f)
	}
	for _, h := range hosts {
		found := []string{""}
		if !filepath.IsAbs(h.name) {
			if known, err := config.LookupFunc(ctx, h.name); err == nil && len(known) > 0 {
				found = known
			}
		}
		for _, address := range found {
			c := config.Copy()
			c.Host, c.Port, c.TLSConfig, c.Fallbacks = h.name, h.port, ways[h][0].TLSConfig, ways[h][1:]
			if address != "" {
				c.LookupFunc = func(context.Context, string) ([]string, error) { return []string{address}, nil }
			}
			all = append(all, c)
		}
	}
	return all
}

// connectFirst connects to several addresses and returns the first connection.
func connectFirst(ctx context.Context, all []*pgx.ConnConfig) (*pgx.Conn, error) {
	type answer struct {
		of    int
		again bool // it had been refused before
		conn  *pgx.Conn
		err   error
	}
	ctx, cancel := context.WithCancel(ctx)
	answers := make(chan answer, len(all)) // an address is tried once at a time
	var trying sync.WaitGroup
	defer func() {
		cancel()
		trying.Wait()
		close(answers)
		for late := range answers {
			if late.conn != nil {
				_ = late.conn.Close(context.Background())
			}
		}
	}()
	errs := make([]error, len(all)) // nil while an attempt is under way
	underWay, untried, unheard := 0, len(all), len(all)
	try := func(n int, again bool) {
		errs[n] = nil
		underWay++
		trying.Go(func() {
			conn, err := pgx.ConnectConfig(ctx, all[n])
			answers <- answer{n, again, conn, err}
		})
	}
	delay := time.NewTicker(attemptDelay)
	defer delay.Stop()
	next := func() {
		if untried > 0 {
			try(len(all)-untried, false)
			untried--
			delay.Reset(attemptDelay)
		}
	}
	for next(); underWay > 0; {
		select {
		case a := <-answers:
			if a.err == nil {
				return a.conn, nil
			}
			underWay--
			if errs[a.of] = a.err; !a.again {
				unheard--
				next()
			}
		case <-delay.C:
			for n, err := range errs {
				if untried == 0 && unheard > 0 && err != nil && !pgconn.Timeout(err) && Unavailable(err) {
					try(n, true)
				}
			}
			next()
		}
	}
	return nil, errors.Join(errs...)
}
