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
	const trip = 10 * time.Millisecond
	for name, c := range map[string]struct {
		waited time.Duration
		taken  int // so many times
		asked  int
		got    bool
	}{
		"it is free":                    {time.Second, 0, 1, true},
		"it is about to be":             {time.Second, 2, 3, true},
		"it is held on purpose":         {100 * time.Microsecond, 9, 1, false},
		"it stays taken":                {time.Minute, 99, 9, false},
		"it stays taken after a moment": {100 * time.Millisecond, 99, 4, false},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := 0
				free, err := insist(func() (bool, time.Duration, error) {
					time.Sleep(trip)
					if asked++; asked == 1 {
						time.Sleep(c.waited)
						return asked > c.taken, c.waited, nil
					}
					return asked > c.taken, 0, nil
				})
				assert.NoError(t, err)
				assert.Equal(t, c.got, free)
				assert.Equal(t, c.asked, asked)
			})
		})
	}
	asked := 0
	_, err := insist(func() (bool, time.Duration, error) { asked++; return false, time.Second, errors.ErrUnsupported })
	assert.Equal(t, errors.ErrUnsupported, err)
	assert.Equal(t, 1, asked)
}
