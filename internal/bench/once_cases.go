package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"

	"example.com/lockstore/metadata"
)

// onceCases measure the cost of tokens for merges.
func onceCases() []testCase {
	return []testCase{{
		name:  "once/lone",
		asks:  "one writer merges into one document of 2 KB, with a token each time",
		floor: storePgx.name, by: byMedian, fine: true,
		subjects: mergeSubjects(mergeLoad{Writers: 1, Documents: 1, Bytes: 2000, Conns: mergeConns}, storePgx, storeOnce),
	}, {
		name:  "once/hot",
		asks:  "256 writers merge into one document of 1.5 KB, with a token each time",
		floor: storePgx.name, by: byRate,
		subjects: mergeSubjects(mergeLoad{Writers: 256, Documents: 1, Bytes: 1500, Conns: mergeConns, Long: true}, storePgx, storeOnce),
	}}
}

var storeOnce = mergeKind{
	name:  "lockstore, once",
	how:   "the same with a token; Once(token).Merge",
	total: versions,
	open: func(ctx context.Context, in *arena, conns int) (merger, error) {
		s, err := openStore(ctx, in, conns, &metadata.Options{Table: metadata.Table{Tokens: metadata.DefaultTokens}})
		if err != nil {
			return nil, err
		}
		if err := s.Migrate(ctx); err != nil {
			return nil, errors.Join(err, s.close())
		}
		return once{s}, nil
	},
}

// once is a store whose merges have tokens.
type once struct{ *store }

var errRepeated = errors.New("a merge is said to be a repetition")

func (o once) merge(ctx context.Context, id string, patch json.RawMessage) error {
	doc, err := o.Once(rand.Text()).Merge(ctx, id, patch)
	if err == nil && doc.Repeated {
		err = errRepeated
	}
	return err
}
