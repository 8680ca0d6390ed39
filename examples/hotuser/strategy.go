package main

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
)

// A strategy is a way to change one user's metadata concurrently.
type strategy struct {
	name  string
	about string

	// promises says that the strategy must lose and leak nothing; the program fails if it
	// does.
	promises bool

	// open prepares the strategy in one process.
	open func(ctx context.Context, db database) (merger, error)
}

// A merger changes metadata for the writers of one process.
type merger interface {
	// merge applies patch to the user's metadata. If it returns nil, the merge is
	// acknowledged: the change must be in the document from now on.
	merge(ctx context.Context, user string, patch json.RawMessage) error
	close() error
}

// strategies are all strategies, in the order in which they run.
var strategies = []strategy{
	{name: "zep-v0.23", about: "advisory lock through the pool, waiting forever", open: openZep(waiting)},
	{name: "zep-v0.24", about: "advisory lock through the pool; 3 retries, 200 ms apart", open: openZep(retrying(zep24))},
	{name: "zep-v0.25", about: "advisory lock through the pool; 7 retries, 200 ms doubling to 10 s", open: openZep(retrying(zep25))},
	{name: "locker+v0.25", about: "the retries of v0.25 on lock.Postgres", promises: true, open: openLocker},
	{name: "update-concat", about: "UPDATE … SET metadata = metadata || patch", open: openConcat},
	{name: "lockstore", about: "Merge of a metadata.Postgres", promises: true, open: openLockstore},
}

func strategyNamed(name string) (strategy, error) {
	var names []string
	for _, s := range strategies {
		if s.name == name {
			return s, nil
		}
		names = append(names, s.name)
	}
	return strategy{}, fmt.Errorf("no strategy is called %q: choose from %s", name, strings.Join(names, ", "))
}
