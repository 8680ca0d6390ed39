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

// get sends a user's metadata, unless the client already has this version.
func (s *service) get(w http.ResponseWriter, r *http.Request) error {
	doc, err := s.store.Get(r.Context(), r.PathValue("id"))
	if err != nil {
		return err
	}
	if tags := r.Header.Values("If-None-Match"); tags != nil {
		match, err := parseTags(tags)
		if err != nil {
			return err
		}
		if match.has(doc.Version, true) {
			w.Header().Set("ETag", tag(doc))
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
	}
	return answer(w, doc)
}

// patch merges a patch. If there is an If-Match, the document must be of that version.
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

// remove replaces the metadata by {}. The user and the version's count stay.
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
	w.Header().Set("Cache-Control", "no-cache") // caches must revalidate
	_, _ = w.Write(doc.Metadata)                // the client may be gone
	return nil
}

// tag returns a document's entity tag (RFC 9110, section 8.8.3). No version occurs twice,
// because this service never deletes users.
func tag(doc metadata.Document) string { return `"v` + strconv.FormatInt(doc.Version, 10) + `"` }

// storeFor returns the store for a write, with the conditions of Idempotency-Key and If-Match.
func (s *service) storeFor(ctx context.Context, r *http.Request) (*metadata.Postgres, error) {
	store, err := s.ifMatch(ctx, r)
	if err != nil {
		return nil, err
	}
	return once(store, r)
}

// ifMatch returns a store that writes only if If-Match holds. If it lists several versions,
// ifMatch reads the document to select one; if the document changes after that, the store
// refuses the write. If no version matches, the store refuses it, too, and not ifMatch,
// because a repetition (see once) must not be refused.
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
	case match.any: // for missing users the answer is 404 anyway
		return s.store, nil
	case len(match.strong) == 1:
		return s.store.IfVersion(match.strong[0]), nil
	}
	doc, err := s.store.Get(ctx, r.PathValue("id"))
	if err != nil {
		return nil, err
	}
	if !match.has(doc.Version, false) {
		doc.Version = -1 // matches no document
	}
	return s.store.IfVersion(doc.Version), nil
}

// matching is a list of entity tags (RFC 9110, section 13.1.1). Tags that this service did not
// create match nothing.
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

// unread returns the problem for a body that could not be read.
func unread(err error) error {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return &problem{Status: http.StatusRequestEntityTooLarge, Detail: "a patch may have " + strconv.FormatInt(tooLarge.Limit, 10) + " bytes"}
	}
	return &problem{Status: http.StatusBadRequest, Detail: "the body did not arrive"}
}
