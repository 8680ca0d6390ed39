package workload

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"example.com/lockstore/metadata"
)

// tenantPatience limits a tenant's call.
const tenantPatience = 10 * time.Second

// expensive has functions that return documents of about so many bytes, and patches for them,
// whose shapes have cost more than their size in some store.
var expensive = []func(bytes int) (document, patch string){
	func(n int) (string, string) { return members(n, `1`), members(n, `2`) },
	func(n int) (string, string) { return within(members(n-400, `1`)), within(members(n-400, `2`)) },
	func(n int) (string, string) { return members(n, `{"x":1}`), members(n, `{"y":1}`) },
	func(n int) (string, string) { return members(n, `1`), members(n, `null`) },
	func(n int) (string, string) {
		return `{"a":[` + repeat(n-400, `1`) + `]}`, `{"a":[` + repeat(n-400, `{"b":null}`) + `]}`
	},
	func(n int) (string, string) { return members(n, `1e-99`), members(n, `1e99`) },
	func(n int) (string, string) { return `{}`, `{"a":"` + strings.Repeat("x", n-400) + `"}` },
}

// refused are patches that every store must refuse.
var refused = map[string]string{
	"too large":    `{"a":"` + strings.Repeat("x", 2<<20) + `"}`,
	"too deep":     strings.Repeat(`{"a":`, 100) + `1` + strings.Repeat(`}`, 100),
	"huge numbers": `{"a":[0e9223372036854775807,1e9223372036854775807,1e-9223372036854775808]}`,
	"twice":        `{"a":1,"\u0061":2}`,
	"half":         `{"a":[` + repeat(64<<10, `[1]`),
}

// Tenant sends expensive patches, and others that must be refused, to its own documents until
// ctx ends. It returns the wrong answers.
func Tenant(ctx context.Context, store Store, name string, seed uint64) (err error) {
	r := rand.New(rand.NewPCG(seed, 1))
	call := func(id, patch string) error {
		patient, cancel := context.WithTimeout(context.WithoutCancel(ctx), tenantPatience)
		defer cancel()
		_, err := store.Merge(patient, id, json.RawMessage(patch))
		return err
	}
	for ctx.Err() == nil {
		id := fmt.Sprint("tenant ", name, r.IntN(4))
		for what, patch := range refused {
			if got := call(id, patch); !errors.Is(got, metadata.ErrInvalidPatch) {
				err = errors.Join(err, fmt.Errorf("a patch that is %s: %w", what, got))
			}
		}
		document, patch := expensive[r.IntN(len(expensive))](64 << 10 << r.IntN(5))
		_, _ = call(id, document), call(id, patch) // they may fail, like all calls
	}
	return err
}

// members returns an object of about n bytes.
func members(n int, value string) string {
	var b strings.Builder
	for i := 0; b.Len() < n-16; i++ {
		fmt.Fprintf(&b, `,"k%06d":%s`, i, value)
	}
	return "{" + b.String()[1:] + "}"
}

// within returns an object nested in 60 others.
func within(object string) string {
	return strings.Repeat(`{"a":`, 60) + object + strings.Repeat(`}`, 60)
}

// repeat returns about n bytes of the same element.
func repeat(n int, element string) string {
	return strings.Repeat(element+",", n/(len(element)+1)) + element
}
