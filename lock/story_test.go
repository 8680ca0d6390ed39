package lock_test

import (
	"flag"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"example.com/lockstore/lock"
	"example.com/lockstore/lock/locktest"
	"example.com/lockstore/pgtest"
)

var (
	storySteps = flag.Int("steps", 20000, "how many steps the stories of a Memory have; those of a Postgres have a twentieth")
	storySeed  = flag.Uint64("stories", 0, "the seed of the first story; 0: a fresh one")
)

// stories have this many steps each.
const stepsOfStory = 100

// playStories plays stories with this many steps in all.
func playStories(t *testing.T, steps int, play func(seed uint64)) {
	seed := *storySeed
	if seed == 0 {
		seed = rand.Uint64N(1 << 40)
	}
	t.Logf("%d steps from seed %d", steps, seed)
	for n := 0; n < steps && !t.Failed(); n += stepsOfStory {
		play(seed)
		seed++
	}
}

// Every Locker answers as one model allows, whatever it is built on.
func TestMemoryAnswersAsTheModel(t *testing.T) {
	playStories(t, *storySteps, func(seed uint64) {
		synctest.Test(t, func(t *testing.T) {
			locktest.Play(t, seed, stepsOfStory, time.Hour, lock.NewMemory())
		})
	})
}

func TestPostgresAnswersAsTheModel(t *testing.T) {
	for name, open := range map[string]func(t *testing.T, db *pgtest.DB, o *lock.PostgresOptions) []lock.Locker{
		"pgx": func(t *testing.T, db *pgtest.DB, o *lock.PostgresOptions) []lock.Locker {
			return []lock.Locker{newPostgres(t, db.Pool(), o)}
		},
		"sqlx": func(t *testing.T, db *pgtest.DB, o *lock.PostgresOptions) []lock.Locker {
			return []lock.Locker{newPostgres(t, db.SQLX(), o)}
		},
		"two processes": func(t *testing.T, db *pgtest.DB, o *lock.PostgresOptions) []lock.Locker {
			return []lock.Locker{newPostgres(t, db.Pool(), o), newPostgres(t, db.SQLX(), o)}
		},
		"three that only poll": func(t *testing.T, db *pgtest.DB, o *lock.PostgresOptions) []lock.Locker {
			o.WaitConns = -1
			return []lock.Locker{newPostgres(t, db.Pool(), o), newPostgres(t, db.SQLX(), o), newPostgres(t, db.Pool(), o)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			db := pgtest.New(t)
			lockers := open(t, db, &lock.PostgresOptions{HandOff: 2 * time.Millisecond})
			playStories(t, *storySteps/20, func(seed uint64) {
				locktest.Play(t, seed, stepsOfStory, 3*time.Millisecond, lockers...)
			})
		})
	}
}
