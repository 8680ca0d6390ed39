package metadata

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
)

// Who has waited for the row asks again for a lock that its former holder is about to
// give up, which a transaction's end does after it has given up the row.
func TestLockOfTheRowIsAskedForAgain(t *testing.T) {
	for name, c := range map[string]struct {
		wait, trip time.Duration
		taken      int // so many times
		asked      int
		got        bool
	}{
		"it is free":                     {time.Second, time.Millisecond, 0, 1, true},
		"it is about to be":              {time.Second, time.Millisecond, 2, 3, true},
		"it is held on purpose":          {0, time.Millisecond, 9, 1, false},
		"it stays taken":                 {time.Minute, time.Millisecond, 99, 9, false},
		"it stays taken, over a network": {50 * time.Millisecond, 10 * time.Millisecond, 99, 3, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				taken, err := insist(func() (bool, error) {
					if asked++; asked == 1 {
						time.Sleep(c.wait)
					} else {
						time.Sleep(c.trip)
					}
					return asked <= c.taken, nil
				})
				assert.NoError(t, err)
				assert.Equal(t, c.got, !taken)
				assert.Equal(t, c.asked, asked)
			})
		})
	}
	asked := 0
	_, err := insist(func() (bool, error) { asked++; return true, errors.ErrUnsupported })
	assert.Equal(t, errors.ErrUnsupported, err)
	assert.Equal(t, 1, asked)
}
