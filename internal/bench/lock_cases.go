package main

import (
	"context"
	"fmt"
	"time"
)

// distinctConns is the number of connections of a subject that needs one for each holder. More
// were slower on the machines tried.
const distinctConns = 64

func lockCases() []testCase {
	lone := lockSubjects(lockLoad{Callers: 1, Keys: 1, Conns: 1}.run,
		lockstorePgx, pooledTry, transactionLock, rowLock,
		goPglock, cirelloPglock, gooseSession, gooseTable, redisLock, etcdLock, zep25)
	cases := []testCase{
		{
			name:  "lock/uncontended",
			asks:  "one goroutine takes and gives back one free key; the server is on another core",
			floor: pooledTry.name, by: byMedian, fine: true, far: true,
			prepare: apart, subjects: lone,
		},
		{
			name:  "lock/uncontended/one-core",
			asks:  "the same; both are on one core",
			floor: pooledTry.name, by: byMedian, fine: true,
			prepare: together, subjects: lone,
		},
	}
	for _, goroutines := range []int{16, 64, 256, 1024} {
		cases = append(cases, testCase{
			name:  fmt.Sprintf("lock/distinct/%d", goroutines),
			asks:  fmt.Sprintf("%d goroutines each take and give back a key of their own; %d connections where one is needed for each", goroutines, distinctConns),
			floor: pooledTry.name, by: byRate, far: true,
			subjects: append(lockSubjects(lockLoad{Callers: goroutines, Keys: goroutines, Conns: distinctConns}.run,
				lockstorePgx, pooledTry, rowLock, goPglock, cirelloPglock, gooseSession, redisLock, etcdLock),
				latencyBound(goroutines, 2, false)),
		})
	}
	return append(cases, hotCase("lock/hot/empty", 0), hotCase("lock/hot/1ms", time.Millisecond),
		testCase{
			name:  "lock/hot/4-processes",
			asks:  "4 processes with 16 goroutines each want one key, and do nothing while they have it; the wait is measured",
			floor: pooledWait.name, by: byRate,
			subjects: lockSubjects(patient(lockLoad{Processes: 4, Callers: 16, Keys: 1, Conns: 16, Waits: true}.run),
				lockstorePgx, pooledWait, transactionLock, rowLock, goPglock, cirelloPglock, gooseSession, gooseTable, redisLock, etcdLock, zep25),
		},
		testCase{
			name:  "lock/held/10000",
			asks:  "256 goroutines take 10 000 keys and keep them all",
			floor: oneConnection.name, by: byRate,
			subjects: lockSubjects(holdMany, lockstorePgx, oneConnection, goPglock, cirelloPglock, redisLock, etcdLock),
		},
		testCase{
			name:  "lock/try-busy",
			asks:  "one goroutine asks for a key that another session has, and is told so at once; the server is on another core",
			floor: pooledTry.name, by: byMedian, fine: true,
			prepare:  apart,
			subjects: lockSubjects(tryBusy, lockstorePgx, pooledTry, goPglock, cirelloPglock, redisLock, etcdLock),
		},
		testCase{
			name:  "lock/wake",
			asks:  "a process waits for a key; how long after another process gives it back does it have it?",
			floor: pooledWait.name, by: byMedian,
			subjects: lockSubjects(wake, lockstorePgx, pooledWait, transactionLock, rowLock,
				goPglock, cirelloPglock, gooseSession, gooseTable, redisLock, etcdLock, zep25),
		})
}

func hotCase(name string, section time.Duration) testCase {
	asks := "32 goroutines want one key, and do nothing while they have it; the wait is measured"
	if section > 0 {
		asks = fmt.Sprintf("32 goroutines want one key, and keep it for %v each; the wait is measured", section)
	}
	return testCase{
		name: name, asks: asks, floor: pooledWait.name, by: byRate,
		subjects: lockSubjects(patient(lockLoad{Callers: 32, Keys: 1, Conns: 32, Section: section, Waits: true}.run),
			lockstorePgx, pooledWait, transactionLock, rowLock,
			goPglock, cirelloPglock, gooseSession, gooseTable, redisLock, etcdLock, zep24, zep25),
	}
}

// patient doubles the time of a run, for subjects that sleep long.
func patient(of func(lockKind) runFunc) func(lockKind) runFunc {
	return func(kind lockKind) runFunc {
		run := of(kind)
		return func(ctx context.Context, in *arena, p pace) (*measurement, error) { return run(ctx, in, p.times(2)) }
	}
}

func lockSubjects(run func(lockKind) runFunc, kinds ...lockKind) []subject {
	subjects := make([]subject, len(kinds))
	for i, k := range kinds {
		subjects[i] = subject{name: k.name, how: k.how, run: run(k)}
	}
	return subjects
}
