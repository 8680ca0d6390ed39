package metadata

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"example.com/lockstore/internal/pgdb"
)

// A document's mark identifies its state without reading its text. Each UPDATE of a row makes
// a row version with another xmin, in another place, whoever sends it (PostgreSQL
// documentation, section 5.6 System Columns). Two servers can have the same for different
// states, so the server is in the mark, too. An UPDATE that changes nothing is detected when
// the document is read.
//
// A view has no system columns, and a role may have no right to them. There the mark is a hash
// of the text, which takes the server longer.
const (
	rowMarkSQL  = `_server.since {||} ' ' {||} t.xmin::{text} {||} ' ' {||} t.ctid::{text} {||} ' ' {||} {version}::{text}`
	textMarkSQL = `CASE WHEN t.{id} IS NOT NULL THEN pg_catalog.hashtextextended(coalesce(t.{column}, '{}')::{text} COLLATE pg_catalog."C", 0::bigint)::{text}
		{||} ' ' {||} {version}::{text} {||} ' ' {||} coalesce(({updated})::{text}, '') END`

	// noMark is the mark of a missing document.
	noMark = "-"
)

// watchedOnSQL returns since when the server runs, and on which timeline if it is a primary.
// Each promotion of a standby begins a timeline with a greater number. It distinguishes a new
// primary from the one before, which may still run (PostgreSQL documentation, section 26.3.6
// Timelines). Some servers do not tell their timeline.
const (
	watchedOnSQL = `_server AS MATERIALIZED (
	SELECT CASE WHEN NOT pg_catalog.pg_is_in_recovery() THEN {timeline} END AS timeline, extract(epoch FROM pg_catalog.pg_postmaster_start_time())::{text} AS since
)`
	timelineSQL   = `(SELECT system_identifier::{text} FROM pg_catalog.pg_control_system()) {||} ' ' {||} pg_catalog.substr(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 1, 8)`
	noTimelineSQL = `''`
)

// lookSQL reads documents as they are stored: the first, and those after it until they have
// {1} bytes together.
const lookSQL = `
WITH ` + watchedOnSQL + `, _found AS (
	SELECT k.place, t.{id} IS NOT NULL AS here, coalesce({mark}, '` + noMark + `') AS mark, {row},
		pg_catalog.sum(coalesce(pg_catalog.pg_column_size(t.{column}), 0)) OVER (ORDER BY k.place) AS size
	FROM pg_catalog.unnest($1::{text}[]::{idtype}[]) WITH ORDINALITY AS k (id, place) CROSS JOIN _server LEFT JOIN {table} AS t ON t.{id} {=} k.id{within}
)
SELECT _server.timeline, _found.place, _found.here, _found.mark, _found.metadata, _found.version, _found.updated_at
FROM _server LEFT JOIN _found ON _found.place {=} 1::bigint OR _found.size {<=} {1}::bigint`

// differSQL finds documents whose mark is not the known one.
const differSQL = `
WITH ` + watchedOnSQL + `, _other AS (
	SELECT k.place
	FROM unnest($1::{text}[]::{idtype}[], {1}::{text}[]) WITH ORDINALITY AS k (id, mark, place) CROSS JOIN _server LEFT JOIN {table} AS t ON t.{id} {=} k.id{within}
	WHERE coalesce({mark}, '` + noMark + `') {<>} k.mark
)
SELECT _server.timeline, coalesce(_other.place, 0) FROM _server LEFT JOIN _other ON true`

// watchStatements are the statements for one kind of marks, with or without timelines.
type watchStatements struct{ look, differ statement }

// newWatchStatements returns them in the order in which they are tried.
func newWatchStatements(expand func(string) statement) (s []watchStatements) {
	for _, mark := range []string{rowMarkSQL, textMarkSQL} {
		for _, timeline := range []string{timelineSQL, noTimelineSQL} {
			with := func(text string) statement {
				return expand(strings.NewReplacer("{mark}", mark, "{timeline}", timeline).Replace(text))
			}
			s = append(s, watchStatements{with(lookSQL), with(differSQL)})
		}
	}
	return s
}

// tables is the [source] of a [Postgres].
type tables struct {
	*postgres
	kind   atomic.Int32 // of statements that the server accepts
	newest timeline
}

// A timeline is the newest timeline that was seen. It scans the column that says which one an
// answer is of. Scan fails with [pgdb.ErrElsewhere] if the server is no primary, or is on an
// older timeline.
type timeline struct {
	mu     sync.Mutex
	newest string // its cluster, and its number in hexadecimal
}

// Scan implements [database/sql.Scanner].
func (t *timeline) Scan(value any) error {
	var now string
	switch v := value.(type) {
	case string:
		now = v
	case []byte:
		now = string(v)
	default:
		return pgdb.ErrElsewhere
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	cluster, number, _ := strings.Cut(now, " ")
	same, newest, _ := strings.Cut(t.newest, " ")
	if cluster == same && number < newest {
		return pgdb.ErrElsewhere
	}
	t.newest = now
	return nil
}

var _ source = (*tables)(nil)

// mostWatched is how many bytes, as they are stored, one read of documents may have.
const mostWatched = 4 << 20

// audience says which watchers share reads with those of ctx's caller: those of the same
// principal, if shared.
func (p *postgres) audience(ctx context.Context) (principal string, shared bool) {
	if p.options.Principal != nil {
		return p.options.Principal(ctx), true
	}
	return "", !p.db.PreparesForCaller()
}

// hint tells watchers about a commit of the document that has ended with err.
func (p *postgres) hint(id string, err error) {
	if p.hints != nil && (err == nil || errors.Is(err, ErrUnknownOutcome)) {
		p.hints.committed(func() int64 { return p.options.key(id).Int64() })
	}
}

func (t *tables) look(ctx context.Context, ids []string, seen func(i int, doc Document, mark string)) error {
	if err := t.fit(ctx, t.db); err != nil {
		return err
	}
	return t.ask(ctx, func(sql watchStatements) error {
		return t.db.Query(ctx, func(row pgdb.Row) error {
			var place, version int64
			var here bool
			var mark string
			var text []byte
			var updated nullTime
			if err := row.Scan(&t.newest, &place, &here, &mark, &text, &version, &updated.at); err != nil {
				return err
			}
			doc := Document{ID: ids[place-1]}
			if here {
				doc.Metadata, doc.Version, doc.UpdatedAt = text, version, updated.time()
			}
			seen(int(place-1), doc, mark)
			return nil
		}, sql.look.text, sql.look.args(ids, int64(mostWatched))...)
	})
}

func (t *tables) differ(ctx context.Context, ids, marks []string, seen func(i int)) error {
	return t.ask(ctx, func(sql watchStatements) error {
		return t.db.Query(ctx, func(row pgdb.Row) error {
			var place int64
			err := row.Scan(&t.newest, &place)
			if err == nil && place > 0 {
				seen(int(place - 1))
			}
			return err
		}, sql.differ.text, sql.differ.args(ids, marks)...)
	})
}

// ask sends a statement of the first kind that the server accepts.
func (t *tables) ask(ctx context.Context, send func(watchStatements) error) error {
	for kind := t.kind.Load(); ; kind++ {
		err := send(t.sql.watch[kind])
		switch code := pgdb.Code(err); {
		case err == nil:
			t.kind.Store(kind)
			return nil
		case errors.Is(err, pgdb.ErrElsewhere):
			return fmt.Errorf("%w: it is a standby, or was a primary before another: %w", ErrWrongServer, err)
		case code != "42703" && code != "42883" && code != "42501" && code != "0A000" || int(kind)+1 == len(t.sql.watch):
			return t.failure(because(ctx, err), false)
		}
	}
}
