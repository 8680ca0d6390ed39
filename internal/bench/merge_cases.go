package main

import (
	"context"
	"fmt"
)

// mergeConns is the size of the pool. One document needs fewer, and more make every subject
// but lockstore slower.
const mergeConns = 16

func mergeCases() []testCase {
	var cases []testCase
	for _, size := range []struct {
		name  string
		bytes int
	}{{"200B", 200}, {"2KB", 2_000}, {"20KB", 20_000}, {"200KB", 200_000}} {
		cases = append(cases, testCase{
			name:  "merge/lone/" + size.name,
			asks:  fmt.Sprintf("one writer merges into one document of %s", size.name),
			floor: concat.name, by: byMedian, fine: true, far: size.bytes == 2_000,
			subjects: mergeSubjects(mergeLoad{Writers: 1, Documents: 1, Bytes: size.bytes, Conns: mergeConns},
				storePgx, storeSQLX, concat, forUpdate, compareAndSwap, zepMerge25),
		})
	}
	for _, writers := range []int{1, 16, 64, 256, 1024} {
		cases = append(cases, testCase{
			name:  fmt.Sprintf("merge/one-document/%d", writers),
			asks:  fmt.Sprintf("%d writers merge into one document of 1.5 KB", writers),
			floor: concat.name, by: byRate, far: true,
			subjects: append(mergeSubjects(mergeLoad{Writers: writers, Documents: 1, Bytes: 1500, Conns: mergeConns, Long: writers >= 256},
				storePgx, storeSQLX, concat, forUpdate, compareAndSwap, zepMerge24, zepMerge25),
				latencyBound(writers, 1, true)),
		})
	}
	return append(cases, testCase{
		name:  "merge/one-document/4-processes",
		asks:  "4 processes with 64 writers each merge into one document of 1.5 KB; a pool of 8 each",
		floor: concat.name, by: byRate, far: true,
		subjects: mergeSubjects(mergeLoad{Processes: 4, Writers: 64, Documents: 1, Bytes: 1500, Conns: 8},
			storePgx, storeSQLX, concat, forUpdate, compareAndSwap, zepMerge25),
	}, testCase{
		name:  "merge/spread/10000",
		asks:  "64 writers merge into 10 000 documents of 1.5 KB, chosen at random",
		floor: concat.name, by: byRate, far: true,
		subjects: mergeSubjects(mergeLoad{Writers: 64, Documents: 10_000, Bytes: 1500, Conns: mergeConns},
			storePgx, storeSQLX, concat, forUpdate, compareAndSwap, zepMerge25),
	}, hungCase(), mergeManyCase(), growthCase(1_000, 1_000), growthCase(100_000, 10_000), growthCase(1_000_000, 20_000))
}

func mergeSubjects(l mergeLoad, kinds ...mergeKind) []subject {
	subjects := make([]subject, len(kinds))
	for i, k := range kinds {
		subjects[i] = subject{name: k.name, how: k.how, run: l.run(k)}
	}
	return subjects
}

// growthCase merges into tables of growing size. With -quick they are smaller.
func growthCase(documents, quick int) testCase {
	const bytes = 200
	load := mergeLoad{Writers: 8, Documents: documents, Bytes: bytes, Conns: 8, Kept: true}
	fast := load
	fast.Documents = quick
	c := testCase{
		name:  fmt.Sprintf("merge/growth/%d", documents),
		asks:  fmt.Sprintf("8 writers merge into %d documents of 200 B, chosen at random: does it cost more the more there are?", documents),
		floor: concat.name, by: byRate,
		prepare: func(ctx context.Context, in *arena, p pace) (func() error, error) {
			n := documents
			if p.Quick {
				n = quick
			}
			return func() error { return in.fill(context.Background(), 1, bytes) }, in.fill(ctx, n, bytes)
		},
	}
	for _, k := range []mergeKind{storePgx, storeSQLX, concat, forUpdate} {
		c.subjects = append(c.subjects, subject{name: k.name, how: k.how, run: func(ctx context.Context, in *arena, p pace) (*measurement, error) {
			if p.Quick {
				return fast.run(k)(ctx, in, p)
			}
			return load.run(k)(ctx, in, p)
		}})
	}
	return c
}
