package lock

import (
	"context"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
)

// connectConfig is pgx.ConnectConfig, but that each address that there may be to connect
// to has a share of the time that is left to ctx, and what comes after another: one that
// is silent leaves time for the others. A shorter ConnectTimeout of the host's own stays.
// It changes config.
func connectConfig(ctx context.Context, config *pgx.ConnConfig) (*pgx.Conn, error) {
	deadline, bounded := ctx.Deadline()
	if !bounded {
		return pgx.ConnectConfig(ctx, config)
	}
	type address struct {
		host string
		port uint16
	}
	counts := map[address]int{{config.Host, config.Port}: 1}
	for _, f := range config.Fallbacks { // with TLS and without are one
		counts[address{f.Host, f.Port}] = 1
	}
	lookup, known := config.LookupFunc, make(map[string][]string)
	n := 0
	for a := range counts {
		if _, err := netip.ParseAddr(a.host); err != nil && lookup != nil && !filepath.IsAbs(a.host) {
			if found, err := lookup(ctx, a.host); err == nil {
				known[a.host] = found
			}
		}
		n += max(1, len(known[a.host]))
	}
	config.LookupFunc = func(ctx context.Context, host string) ([]string, error) {
		if found := known[host]; found != nil {
			return found, nil
		}
		return lookup(ctx, host)
	}
	if n > 1 {
		n++
	}
	share := time.Until(deadline) / time.Duration(n)
	if config.ConnectTimeout == 0 || share < config.ConnectTimeout {
		config.ConnectTimeout = share
	}
	return pgx.ConnectConfig(ctx, config)
}
