package metadata

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"example.com/lockstore/internal/pgdb"
)

// A fullPool has no free connection.
type fullPool struct{ pgdb.DB }

func (fullPool) Full() bool { return true }

// Others go on without a caller that has no connection at the last look. They stay behind one
// that got its connection before, also if the pool was full when it was looked at first.
func TestOthersGoOnWithoutWhoIsLate(t *testing.T) {
	for _, late := range []time.Duration{lateConnLeader, lateLeader} {
		synctest.Test(t, func(t *testing.T) {
			p := &postgres{db: fullPool{}}
			begun, went := time.Now(), time.Duration(0)
			stop := p.whenLate(late, func() { went = time.Since(begun) })
			time.Sleep(time.Minute)
			synctest.Wait()
			assert.Equal(t, lastLook, went)
			stop()

			went = 0
			stop = p.whenLate(late, func() { went = time.Since(begun) })
			time.Sleep(late + time.Millisecond)
			stop()
			time.Sleep(time.Minute)
			synctest.Wait()
			assert.Zero(t, went, "its connection has come")
		})
	}
}
