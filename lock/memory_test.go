package lock_test

import (
	"testing"

	"example.com/lockstore/lock"
	"example.com/lockstore/lock/locktest"
)

func TestMemoryConforms(t *testing.T) {
	locktest.Run(t, func(testing.TB) lock.Locker { return lock.NewMemory() })
}
