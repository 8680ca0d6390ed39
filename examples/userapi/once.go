package main

import (
	"net/http"
	"regexp"
	"strings"

	"example.com/lockstore/metadata"
)

// once returns a store that executes a write once for the request's Idempotency-Key. The key
// is a string of a structured field (RFC 9651, section 3.3.3), or a key without quotes.
func once(store *metadata.Postgres, r *http.Request) (*metadata.Postgres, error) {
	keys := r.Header.Values("Idempotency-Key")
	if keys == nil {
		return store, nil
	}
	if key, ok := keyIn(strings.Join(keys, ",")); ok && len(keys) == 1 {
		return store.Once(key), nil
	}
	return nil, &problem{Status: http.StatusBadRequest, Detail: "Idempotency-Key takes one key, of printable ASCII; quotes are around all of it"}
}

var (
	quoted  = regexp.MustCompile(`^"((?:[ !#-\[\]-~]|\\["\\])*)"$`)
	bare    = regexp.MustCompile(`^[!#-+\--~]+$`) // neither quotes nor a comma
	escaped = strings.NewReplacer(`\"`, `"`, `\\`, `\`)
)

func keyIn(field string) (key string, ok bool) {
	if m := quoted.FindStringSubmatch(field); m != nil {
		return escaped.Replace(m[1]), true
	}
	return field, bare.MatchString(field)
}

// replayed tells the client if the write had been executed before.
func replayed(w http.ResponseWriter, doc metadata.Document) {
	if doc.Repeated {
		w.Header().Set("Idempotency-Replayed", "true")
	}
}
