package main

import (
	"context"
	"errors"
)

// tryBusy asks for a key that another locker of the same kind holds.
func tryBusy(kind lockKind) runFunc {
	return func(ctx context.Context, in *arena, p pace) (m *measurement, err error) {
		setup := lockSetup{Keys: 1, Conns: 1}
		holder, err := kind.open(ctx, in, setup)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, holder.close()) }()
		unlock, err := holder.lock(ctx, 0)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, unlock()) }()
		opened, err := kind.open(ctx, in, setup)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, opened.close()) }()
		asker := opened.(trier)
		connections := in.watch(ctx)
		var granted int64
		m = repeat(ctx, p, func() error {
			unlock, err := asker.try(ctx, 0)
			if err == nil {
				granted++
				return unlock()
			}
			if errors.Is(err, errBusy) {
				return nil
			}
			return err
		})
		m.Conns, m.Violations = connections(), granted
		return m, nil
	}
}
