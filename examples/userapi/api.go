package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"example.com/lockstore/metadata"
)

const mergePatch = "application/merge-patch+json"

// get answers with a user's metadata, unless the client has it already.
func (s *service) get(w http.ResponseWriter, r *http.Request) error {
	doc, err := s.store.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	if tags := r.Header.Values("If-None-Match"); tags != nil {
		if match, err := parseTags(tags); err != nil {
			return err
		} else if match.has(doc.Version, true) {
			w.Header().Set("ETag", tag(doc))
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
	}
	return answer(w, doc)
}

// patch merges, if the document is of the version that If-Match asks for.
func (s *service) patch(w http.ResponseWriter, r *http.Request) error {
	w.Header().Set("Accept-Patch", mergePatch)
	media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || media != mergePatch || r.Header.Get("Content-Encoding") != "" {
		return &problem{Status: http.StatusUnsupportedMediaType, Detail: "want " + mergePatch + ", not encoded"}
	}
	patch, err := io.ReadAll(http.MaxBytesReader(w, r.Body, int64(s.maxBody)))
	if err != nil {
		return unread(err)
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.wait)
	defer cancel()
	store, err := s.storeFor(ctx, r)
	if err != nil {
		return err
	}
	doc, err := store.Merge(ctx, r.PathValue("id"), patch)
	if err != nil {
		return err
	}
	replayed(w, doc)
	return answer(w, doc)
}

// remove empties the metadata. The user stays, and so does the count of changes.
func (s *service) remove(w http.ResponseWriter, r *http.Request) error {
	ctx, cancel := context.WithTimeout(r.Context(), s.wait)
	defer cancel()
	store, err := s.storeFor(ctx, r)
	if err != nil {
		return err
	}
	doc, err := store.Replace(ctx, r.PathValue("id"), json.RawMessage(`{}`))
	if err != nil {
		return err
	}
	replayed(w, doc)
	w.Header().Set("ETag", tag(doc))
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func answer(w http.ResponseWriter, doc metadata.Document) error {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("ETag", tag(doc))
	w.Header().Set("Cache-Control", "no-cache") // but ask whether it has changed
	_, _ = w.Write(doc.Metadata)                // to a client that may have gone
	return nil
}

// tag is a document's entity tag (RFC 9110, section 8.8.3). Users are never deleted here,
// so that no version comes twice.
func tag(doc metadata.Document) string { return `"v` + strconv.FormatInt(doc.Version, 10) + `"` }

// storeFor is the store for a write: as Idempotency-Key and If-Match have it.
func (s *service) storeFor(ctx context.Context, r *http.Request) (*metadata.Postgres, error) {
	store, err := s.ifMatch(ctx, r)
	if err != nil {
		return nil, err
	}
	return once(store, r)
}

// ifMatch is the store, as far as If-Match lets write to it. Which of several versions
// the document has is looked at first; should it change then, the write is refused. So it
// is where none of them is right, by the store, as a repetition is not to be refused.
func (s *service) ifMatch(ctx context.Context, r *http.Request) (*metadata.Postgres, error) {
	if r.Header.Values("If-None-Match") != nil {
		return nil, &problem{Status: http.StatusBadRequest, Detail: "If-None-Match is for GET"}
	}
	tags := r.Header.Values("If-Match")
	if tags == nil {
		return s.store, nil
	}
	match, err := parseTags(tags)
	switch {
	case err != nil:
		return nil, err
	case match.any: // users that there are not are not found, anyway
		return s.store, nil
	case len(match.strong) == 1:
		return s.store.IfVersion(match.strong[0]), nil
	}
	doc, err := s.store.Get(ctx, r.PathValue("id"))
	if !match.has(doc.Version, false) {
		doc.Version = -1 // which none has
	}
	return s.store.IfVersion(doc.Version), err
}

// matching is a list of entity tags (RFC 9110, section 13.1.1), of which those that are
// not ours match nothing.
type matching struct {
	any          bool
	strong, weak []int64
}

func (m matching) has(version int64, weakly bool) bool {
	return m.any || slices.Contains(m.strong, version) || weakly && slices.Contains(m.weak, version)
}

func parseTags(values []string) (m matching, err error) {
	bad := &problem{Status: http.StatusBadRequest, Detail: "If-Match and If-None-Match take * or entity tags in quotes"}
	rest := strings.TrimSpace(strings.Join(values, ","))
	if rest == "*" {
		return matching{any: true}, nil
	}
	for rest != "" {
		if after, ok := strings.CutPrefix(rest, ","); ok {
			rest = strings.TrimSpace(after)
			continue
		}
		to := &m.strong
		if after, ok := strings.CutPrefix(rest, "W/"); ok {
			rest, to = after, &m.weak
		}
		opened, ok := strings.CutPrefix(rest, `"`)
		text, after, closed := strings.Cut(opened, `"`)
		if rest = strings.TrimSpace(after); !ok || !closed || rest != "" && rest[0] != ',' {
			return m, bad
		}
		if digits, ours := strings.CutPrefix(text, "v"); ours {
			if version, err := strconv.ParseInt(digits, 10, 64); err == nil && strconv.FormatInt(version, 10) == digits {
				*to = append(*to, version)
			}
		}
	}
	return m, nil
}

// unread is why a body could not be read.
func unread(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return &problem{Status: http.StatusRequestEntityTooLarge, Detail: "a patch may have " + strconv.FormatInt(tooLarge.Limit, 10) + " bytes"}
	}
	return &problem{Status: http.StatusBadRequest, Detail: "the body did not arrive"}
}
