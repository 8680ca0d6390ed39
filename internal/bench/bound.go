package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// A bound is a subject that does nothing, but reports in each round what is possible at most,
// because of the distance or of the processors.

func isBound(name string) bool { return strings.HasPrefix(name, "bound") }

// latencyBound is the rate of so many callers if each operation took only its round trips, and
// the server's time for a commit, if there is one: callers ÷ (round trips + commit). Both are
// measured in each round, on an idle server.
func latencyBound(callers, roundTrips int, commits bool) subject {
	how := fmt.Sprintf("%d ÷ %d measured round trips", callers, roundTrips)
	if commits {
		how = fmt.Sprintf("%d ÷ (%d measured round trip + the server's time for a commit)", callers, roundTrips)
	}
	return subject{"bound: latency", how, func(ctx context.Context, in *arena, p pace) (*measurement, error) {
		shorter := pace{Warm: p.Warm / 4, Count: p.Count / 4}
		trip, err := in.roundTrip(ctx, shorter, ping)
		if err != nil {
			return nil, err
		}
		m := newMeasurement()
		m.Extra["round trip, ms"] = trip.Seconds() * 1000
		each := time.Duration(roundTrips) * trip
		if commits {
			if err := in.fill(ctx, 1, 1500); err != nil {
				return nil, err
			}
			answered, err := in.overTheSocket().roundTrip(ctx, shorter, ping)
			if err != nil {
				return nil, err
			}
			committed, err := in.overTheSocket().roundTrip(ctx, shorter, commit)
			if err != nil {
				return nil, err
			}
			m.Extra["commit, ms"] = (committed - answered).Seconds() * 1000
			each += committed - answered
		}
		m.Ops, m.Took = int64(float64(callers)*float64(time.Minute)/float64(each)), time.Minute
		m.Latency.record(each)
		return m, nil
	}}
}

// ping is the cheapest statement, commit the cheapest that commits.
func ping(ctx context.Context, conn *pgx.Conn) error { return conn.Ping(ctx) }

func commit(ctx context.Context, conn *pgx.Conn) error {
	_, err := conn.Exec(ctx, concatSQL, documentID(0), `{"seen":0}`)
	return err
}

// roundTrip returns the median time of a statement that one caller repeats.
func (in *arena) roundTrip(ctx context.Context, p pace, ask func(context.Context, *pgx.Conn) error) (time.Duration, error) {
	conn, err := pgx.Connect(ctx, in.DSN)
	if err != nil {
		return 0, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	m := repeat(ctx, p, func() error { return ask(ctx, conn) })
	if m.Errors > 0 {
		return 0, fmt.Errorf("measure a round trip: %s", m.Error)
	}
	return m.Latency.at(50), nil
}

const socketBoundName = "bound: lockstore over the socket"

// socketBound is the first subject's rate without a distance, which the processors limit.
func (c testCase) socketBound() subject {
	own := c.subjects[0]
	return subject{socketBoundName, own.how + "; without the distance", func(ctx context.Context, in *arena, p pace) (*measurement, error) {
		return own.run(ctx, in.overTheSocket(), p)
	}}
}

// over returns the case over a distance.
func (c testCase) over(rtt time.Duration) testCase {
	c.name = fmt.Sprintf("%s@%v", c.name, rtt)
	c.asks = fmt.Sprintf("%s; over a network of %v there and back", c.asks, rtt)
	c.rtt = rtt
	for _, s := range c.subjects {
		if isBound(s.name) {
			c.subjects = append(c.subjects[:len(c.subjects):len(c.subjects)], c.socketBound())
			break
		}
	}
	return c
}
