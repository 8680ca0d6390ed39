package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/jackc/pgx/v5"
)

// run runs the plan's strategies, one after the other, in a new database.
func (p *plan) run(ctx context.Context, stderr io.Writer) (results []result, err error) {
	db, drop, err := createDatabase(ctx, p.dsn)
	if err != nil {
		return nil, interrupted(ctx, err)
	}
	defer func() { err = errors.Join(interrupted(ctx, err), drop()) }()
	if err := installLockstore(ctx, db); err != nil {
		return nil, fmt.Errorf("cannot install the merge function, check that the role may create one in the first schema of its search_path: %w", err)
	}
	observer, err := db.connect(ctx)
	if err != nil {
		return nil, err
	}
	defer observer.Close(context.WithoutCancel(ctx))
	for _, s := range p.strategies {
		r, err := p.runStrategy(ctx, s, db, observer, stderr)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		results = append(results, r)
	}
	return results, nil
}

// interrupted returns err, or "interrupted" if the user has ended the run.
func interrupted(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return errors.New("interrupted")
	}
	return err
}

// runStrategy lets the writers merge into a new user, named after the strategy. It checks the
// result before the strategy is closed, because a service keeps running with its connections.
func (p *plan) runStrategy(ctx context.Context, s strategy, db database, observer *pgx.Conn, stderr io.Writer) (r result, err error) {
	j := job{Database: db, Strategy: s.name, User: s.name, Run: rand.Text(), Count: p.writers, Cut: p.cut}
	if _, err := observer.Exec(ctx, "INSERT INTO users (id) VALUES ($1)", j.User); err != nil {
		return r, err
	}
	workers, err := startWorkers(ctx, j, p.processes)
	if err != nil {
		return r, err
	}
	defer func() { err = errors.Join(err, workers.stop()) }()

	show := startProgress(stderr, s.name, p.writers)
	outcomes := make([]outcome, 0, p.writers)
	begin := time.Now()
	err = workers.run(func(o outcome) {
		outcomes = append(outcomes, o)
		show.add(o)
	})
	r = newResult(s.name, p.processes, outcomes, time.Since(begin))
	if err == nil {
		r.Lost, err = lost(ctx, observer, &j, outcomes)
	}
	var holders string
	if err == nil {
		r.LeakedLocks, holders, err = leaked(ctx, observer)
	}
	show.stop(r, err)
	if holders != "" {
		fmt.Fprintf(stderr, "%-14s leaked %s\n", s.name, holders)
	}
	return r, err
}
