package lock_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/pgtest"
)

// hostile are ids that would affect the reader of a terminal or a log if they were printed as
// they are.
var hostile = map[string]string{
	"line":       "42\nlevel=ERROR msg=forged",
	"return":     "42\rroot logged in",
	"escape":     "42\x1b[2J\x1b]0;title\x07",
	"C1":         "42\u009b2J",
	"delete":     "42\x7f\x7f",
	"bidi":       "42\u202e24 ton si",
	"isolate":    "\u206642\u2069",
	"zero width": "4\u200b2",
	"separator":  "42\u2028forged\u2029",
	"byte order": "\ufeff42",
	"tag":        "42\U000e0041",
}

// assertInert fails a test if a text has anything of an id in it that does not print.
func assertInert(t *testing.T, text, id, of string) {
	t.Helper()
	assert.NotContains(t, text, id, of)
	for _, r := range strings.ReplaceAll(text, "\n", "") { // which errors.Join has
		assert.True(t, strconv.IsPrint(r), "%s: %q", of, text)
	}
	assert.Contains(t, text, strings.Trim(strconv.Quote(id), `"`), "%s: it is still told which id it is", of)
}

func TestHostileIDsAreQuotedInErrors(t *testing.T) {
	db := pgtest.New(t)
	locker, memory := newPostgres(t, db.Pool(), nil), lock.NewMemory()
	closedPool, err := pgxpool.NewWithConfig(t.Context(), db.Pool().Config())
	require.NoError(t, err)
	unready := newPostgres(t, closedPool, nil)
	closedPool.Close()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, id := range hostile {
		key := lock.Namespace("shop").Name("user", id)
		other := lock.Name(id)
		for _, l := range []lock.AllLocker{locker, memory} {
			held := take(t, l, key)
			for what, operation := range map[string]func(context.Context) error{
				"Lock":     func(ctx context.Context) error { _, err := l.Lock(ctx, key); return err },
				"RLock":    func(ctx context.Context) error { _, err := l.RLock(ctx, key); return err },
				"LockAll":  func(ctx context.Context) error { _, err := l.LockAll(ctx, other, key); return err },
				"TryLock":  func(context.Context) error { _, err := l.TryLock(t.Context(), key); return err },
				"TryRLock": func(context.Context) error { _, err := l.TryRLock(t.Context(), key); return err },
				"Do": func(ctx context.Context) error {
					return lock.Do(ctx, l, key, func(context.Context) error { return nil })
				},
			} {
				brief, cancel := context.WithTimeout(t.Context(), 2*time.Millisecond)
				for _, ctx := range []context.Context{brief, ended} {
					err := operation(ctx)
					require.Error(t, err, what)
					of := fmt.Sprintf("%T, %s, %s", l, name, what)
					assertInert(t, err.Error(), id, of)
					var busy *lock.BusyError
					if errors.As(err, &busy) {
						assert.Contains(t, []lock.Key{key, other}, busy.Key, "the error has the key itself")
					}
				}
				cancel()
			}
			assert.NoError(t, held.Unlock())
		}

		tx, err := db.Pool().Begin(t.Context())
		require.NoError(t, err)
		assertInert(t, lock.InTx(ended, tx, key).Error(), id, name+", InTx in vain")
		require.NoError(t, tx.Rollback(t.Context()))
		assertInert(t, lock.InTx(t.Context(), tx, key).Error(), id, name+", InTx after the end")
		_, err = unready.Status(t.Context(), key)
		require.Error(t, err)
		assertInert(t, err.Error(), id, name+", Status")
		assertInert(t, unready.Evict(t.Context(), key, 0).Error(), id, name+", Evict")
		assertInert(t, fmt.Sprintf("%v %+v", lock.Status{Key: key}, key), id, name+", formatted")
	}
}

func TestHostileIDsAreQuotedInLogs(t *testing.T) {
	db := pgtest.New(t)
	for name, handler := range map[string]func(*bytes.Buffer) slog.Handler{
		"text": func(b *bytes.Buffer) slog.Handler { return slog.NewTextHandler(b, nil) },
		"JSON": func(b *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(b, nil) },
	} {
		var log bytes.Buffer
		locker, err := lock.NewPostgres(t.Context(), db.Pool(), &lock.PostgresOptions{Logger: slog.New(handler(&log))})
		require.NoError(t, err)
		for _, id := range hostile {
			held := take(t, locker, lock.Name(id))
			require.NoError(t, locker.Evict(t.Context(), lock.Name(id), patience))
			assert.ErrorIs(t, held.Unlock(), lock.ErrEvicted)
		}
		require.NoError(t, locker.Close(t.Context()))
		lines := strings.Split(strings.TrimSpace(log.String()), "\n")
		assert.Len(t, lines, len(hostile), name)
		for _, line := range lines {
			for _, r := range line {
				assert.True(t, strconv.IsPrint(r), "%s: %q", name, line)
			}
		}
	}
}
