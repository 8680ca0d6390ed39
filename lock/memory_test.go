package lock_test

import (
	"testing"

	"example.com/lockstore/lock"
	"example.com/lockstore/lock/locktest"
)

func TestMemoryConforms(t *testing.T) {
	locktest.Run(t, func(testing.TB) lock.Locker { return lock.NewMemory() })
}

// A lockerOnly has no other methods than those of Locker.
type lockerOnly struct{ lock.Locker }

// The suite leaves out what a Locker of the host's own need not have.
func TestLockerOfTheHostsOwnConforms(t *testing.T) {
	locktest.Run(t, func(testing.TB) lock.Locker { return lockerOnly{lock.NewMemory()} })
}
