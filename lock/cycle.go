package lock

import (
	"context"
	"slices"
	"time"

	"example.com/lockstore/internal/pgdb"
)

// heldSQL lists the processes that hold keys ($1).
const heldSQL = `SELECT l.classid::bigint, l.objid::bigint, l.pid FROM pg_catalog.pg_locks AS l
WHERE l.database OPERATOR(pg_catalog.=) (` + databaseSQL + `) AND l.locktype OPERATOR(pg_catalog.=) 'advisory' AND l.objsubid OPERATOR(pg_catalog.=) 1::smallint
	AND l.granted AND ((l.classid::bigint OPERATOR(pg_catalog.<<) 32) OPERATOR(pg_catalog.|) l.objid::bigint) OPERATOR(pg_catalog.=) ANY ($1::bigint[])
ORDER BY l.pid`

// longInCycle is how long a wait must last to count as part of a cycle. Shorter ones are
// common.
const longInCycle = 500 * time.Millisecond

// cycle finds processes that wait for each other: from a holder of the key of s, by the keys
// that it waits for, to their holders, and so on to a process that waits for the key of s. A
// process does not report which of its calls hold what, so what looks like a cycle may be mere
// contention.
func (p *Postgres) cycle(ctx context.Context, s Status, all []report, waited time.Duration) ([]Backend, error) {
	of := make(map[uint32]int) // index in all of the report of a session's process
	waits := make([][]int64, len(all))
	var ids []int64
	for i, a := range all {
		for _, pid := range a.PIDs {
			of[pid] = i
		}
		for _, t := range a.Keys {
			if t.longest() >= longInCycle {
				waits[i] = append(waits[i], t.ID)
				ids = append(ids, t.ID)
			}
		}
	}
	if waited >= longInCycle {
		waits[0], ids = append(waits[0], s.Key.id), append(ids, s.Key.id)
	}
	if !slices.Contains(ids, s.Key.id) || len(all) < 2 {
		return nil, nil
	}
	holds := make(map[int64][]int)
	err := p.db.Query(ctx, func(row pgdb.Row) error {
		var high, low int64
		var pid uint32
		err := row.Scan(&high, &low, &pid)
		if i, known := of[pid]; known {
			holds[high<<32|low] = append(holds[high<<32|low], i)
		}
		return err
	}, heldSQL, ids)
	seen := make(map[int]bool)
	var path func(from int, key int64) []Backend
	path = func(from int, key int64) []Backend {
		for _, i := range holds[key] {
			if seen[i] {
				continue
			}
			seen[i] = true
			if from >= 0 && slices.Contains(waits[i], s.Key.id) {
				return []Backend{all[i].by.Backend}
			}
			for _, next := range waits[i] {
				if next == key {
					continue
				}
				if rest := path(i, next); rest != nil {
					return append([]Backend{all[i].by.Backend}, rest...)
				}
			}
		}
		return nil
	}
	return path(-1, s.Key.id), err
}
