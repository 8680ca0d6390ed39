// Package storetest is the conformance suite of [metadata.MetadataStore]. It tests what every
// implementation promises.
//
//	func TestConformance(t *testing.T) {
//		storetest.Run(t, func(t testing.TB) metadata.MetadataStore { return mystore.New() })
//	}
package storetest

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

// Run tests a store. Each test calls open for a store, which
//
//   - creates missing documents on writing, and has the default limits of [metadata.Options];
//     a smaller MaxDocumentBytes, of at least 1 MiB, saves time;
//   - is closed by t.Cleanup, which open registers;
//   - may share its documents with the other stores of the run: each test has its own ids.
//
// Once is tested if the store is a [metadata.Postgres] or [metadata.Memory] with a Table.Tokens,
// or has a method Once(string) metadata.MetadataStore. Watch and Key are tested if the store has
// these methods.
func Run(t *testing.T, open func(t testing.TB) metadata.MetadataStore) {
	for _, c := range []struct {
		name string
		test func(*suite)
	}{
		{"MissingDocumentIsNotFound", (*suite).missing},
		{"MergeCreatesMergesAndReturns", (*suite).merge},
		{"MergeFollowsRFC7396", (*suite).rfc7396},
		{"MergeIsExact", (*suite).exact},
		{"UnchangingPatchWritesNothing", (*suite).unchanging},
		{"InvalidPatchIsRefused", (*suite).invalidPatch},
		{"TooLargeDocumentIsRefused", (*suite).tooLarge},
		{"InvalidIDIsRefused", (*suite).invalidID},
		{"DocumentsAreIndependent", (*suite).independent},
		{"IDsAreTheirBytes", (*suite).idsAreBytes},
		{"AnswersAreTheCallers", (*suite).answersAreTheCallers},
		{"UpdateReadsDecidesAndPatches", (*suite).update},
		{"UpdateErrorChangesNothing", (*suite).updateError},
		{"UpdatePanicChangesNothing", (*suite).updatePanic},
		{"ConcurrentMergesAreAllKept", (*suite).concurrentMerges},
		{"ConcurrentUpdatesAreAllKept", (*suite).concurrentUpdates},
		{"ConcurrentUpdatesDecideOneAfterTheOther", (*suite).counter},
		{"HoldOfAnotherLockerIsNone", (*suite).holdOfAnotherLocker},
		{"EndedContextChangesNothing", (*suite).endedContext},
		{"OlderThanAtLeastIsRefused", (*suite).atLeast},
		{"WatchTellsEachStateThatIsTakenIn", (*suite).watch},
		{"OnceIsMadeOnce", (*suite).once},
		{"OnceIsMadeOnceOfManyAtATime", (*suite).onceOfMany},
		{"OnceLeavesNothingOfWhatFails", (*suite).onceFails},
		{"OnceIsForOneWriteOfOneDocument", (*suite).onceForOne},
	} {
		t.Run(c.name, func(t *testing.T) { c.test(&suite{t, t.Context(), open(t)}) })
	}
}

type suite struct {
	*testing.T
	ctx   context.Context
	store metadata.MetadataStore
}

// id returns an id of the running test's own.
func (s *suite) id(more ...any) string { return s.Name() + fmt.Sprint(more...) }

func (s *suite) must(doc metadata.Document, err error) metadata.Document {
	s.Helper()
	if err != nil {
		s.Fatalf("unexpected error: %v", err)
	}
	return doc
}

func (s *suite) wantError(err, want error) {
	s.Helper()
	if !errors.Is(err, want) {
		s.Errorf("error is %v, want one that matches %v", err, want)
	}
}

// wantText compares to the byte.
func (s *suite) wantText(doc metadata.Document, want string) {
	s.Helper()
	if string(doc.Metadata) != want {
		s.Errorf("document is %s, want %s", doc.Metadata, want)
	}
}

func (s *suite) merged(id, patch string) metadata.Document {
	s.Helper()
	return s.must(s.store.Merge(s.ctx, id, json.RawMessage(patch)))
}

func (s *suite) got(id string) metadata.Document {
	s.Helper()
	return s.must(s.store.Get(s.ctx, id))
}

func (s *suite) missing() {
	_, err := s.store.Get(s.ctx, s.id())
	s.wantError(err, metadata.ErrNotFound)
}

func (s *suite) merge() {
	first := s.merged(s.id(), `{"name":"Ada","tags":["a","b"]}`)
	s.wantText(first, `{"name": "Ada", "tags": ["a", "b"]}`)
	second := s.merged(s.id(), `{"name":null,"tags":["c"],"at":{"home":true}}`)
	s.wantText(second, `{"at": {"home": true}, "tags": ["c"]}`)
	if first.ID != s.id() || first.Version != 1 || second.Version != 2 {
		s.Errorf("versions are %d and %d, want 1 and 2", first.Version, second.Version)
	}
	if first.UpdatedAt.IsZero() || second.UpdatedAt.Before(first.UpdatedAt) {
		s.Errorf("times are %v and %v", first.UpdatedAt, second.UpdatedAt)
	}
	got := s.got(s.id())
	if !got.UpdatedAt.Equal(second.UpdatedAt) {
		s.Errorf("Get says %v, Merge said %v", got.UpdatedAt, second.UpdatedAt)
	}
	got.UpdatedAt = second.UpdatedAt
	if !reflect.DeepEqual(got, second) {
		s.Errorf("Get returns %+v, Merge returned %+v", got, second)
	}
}

// rfc7396 has the cases of the RFC's Appendix A in which both sides are objects.
func (s *suite) rfc7396() {
	for i, c := range []struct{ target, patch, want string }{
		{`{"a":"b"}`, `{"a":"c"}`, `{"a": "c"}`},
		{`{"a":"b"}`, `{"b":"c"}`, `{"a": "b", "b": "c"}`},
		{`{"a":"b"}`, `{"a":null}`, `{}`},
		{`{"a":"b","b":"c"}`, `{"a":null}`, `{"b": "c"}`},
		{`{"a":["b"]}`, `{"a":"c"}`, `{"a": "c"}`},
		{`{"a":"c"}`, `{"a":["b"]}`, `{"a": ["b"]}`},
		{`{"a":{"b":"c"}}`, `{"a":{"b":"d","c":null}}`, `{"a": {"b": "d"}}`},
		{`{"a":[{"b":"c"}]}`, `{"a":[1]}`, `{"a": [1]}`},
		{`{}`, `{"a":{"bb":{"ccc":null}}}`, `{"a": {"bb": {}}}`},
	} {
		id := s.id(i)
		s.merged(id, c.target)
		s.wantText(s.merged(id, c.patch), c.want)
		s.wantText(s.got(id), c.want)
	}
}

func (s *suite) exact() {
	for i, c := range []struct{ patch, want string }{
		{`{"n":12345678901234567890.12345678901234567890}`, `{"n": 12345678901234567890.12345678901234567890}`},
		{`{"n":9007199254740993,"m":1.10,"z":-0}`, `{"m": 1.10, "n": 9007199254740993, "z": 0}`},
		{`{"n":1e3,"m":1.5E-2,"k":-2.50e+1,"z":0.0e1}`, `{"k": -25.0, "m": 0.015, "n": 1000, "z": 0}`},
		{`{"a":[null,{"b":null,"a":[]}]}`, `{"a": [null, {"a": [], "b": null}]}`},
		{`{"long key":1,"b":2,"aa":3,"é":4}`, `{"b": 2, "aa": 3, "é": 4, "long key": 1}`},
		{`{"s":"\u00e9\/\"\\\b\f\n\r\t\u0001\u007f😀\ud83d\ude00"}`, "{\"s\": \"é/\\\"\\\\\\b\\f\\n\\r\\t\\u0001\u007f😀😀\"}"},
		{`{"":{"":0}}`, `{"": {"": 0}}`},
	} {
		id := s.id(i)
		s.wantText(s.merged(id, c.patch), c.want)
		s.wantText(s.got(id), c.want)
		s.wantText(s.merged(id, `{"other":{}}`), s.object(c.want, `"other": {}`))
	}
}

// object inserts a member where jsonb has it, after all shorter keys.
func (s *suite) object(text, member string) string {
	if at := strings.Index(text, `, "long key"`); at >= 0 {
		return text[:at] + ", " + member + text[at:]
	}
	return strings.TrimSuffix(text, "}") + ", " + member + "}"
}

func (s *suite) unchanging() {
	before := s.merged(s.id(), `{"a":{"b":[1,{"c":null}]},"n":1.0}`)
	for _, patch := range []string{`{}`, `{"x":null}`, `{"a":{}}`, `{"a":{"b":[1,{"c":null}],"x":null}}`, `{"n":1.0}`} {
		after := s.merged(s.id(), patch)
		if after.Version != before.Version || !after.UpdatedAt.Equal(before.UpdatedAt) {
			s.Errorf("%s led from version %d to %d", patch, before.Version, after.Version)
		}
		s.wantText(after, string(before.Metadata))
	}
}

func (s *suite) invalidPatch() {
	before := s.merged(s.id(), `{"a":1}`)
	deep := strings.Repeat(`{"a":`, 64) + "{}" + strings.Repeat("}", 64)
	for _, c := range []struct{ patch, path string }{
		{``, "$"}, {`null`, "$"}, {`[1]`, "$"}, {`"a"`, "$"}, {`{"a":1`, "$"}, {`{"a":1} x`, "$"},
		{`{"b":{"c":[0,"\u0000"]}}`, "$.b.c[1]"},
		{`{"b":"\ud800"}`, "$.b"}, {"{\"b\":\"\xff\"}", "$.b"},
		{`{"b":1,"b":1}`, "$.b"},
		{`{"b":[1e131071]}`, "$.b[0]"}, {`{"b":1e-5000}`, "$.b"}, {`{"b":1e99999999999999999999}`, "$.b"},
		{deep, "$" + strings.Repeat(".a", 64)},
		{`{"b":` + strings.Repeat("[", 500_000), "$.b" + strings.Repeat("[0]", 63)},
	} {
		_, err := s.store.Merge(s.ctx, s.id(), json.RawMessage(c.patch))
		s.wantError(err, metadata.ErrInvalidPatch)
		var patchErr *metadata.PatchError
		if !errors.As(err, &patchErr) || patchErr.Path != c.path || patchErr.Reason == "" {
			s.Errorf("error for %.40q is %v, want a PatchError at %s", c.patch, err, c.path)
		}
		_, err = s.store.Update(s.ctx, s.id(), func(metadata.Document) (json.RawMessage, error) {
			return json.RawMessage(c.patch), nil
		})
		s.wantError(err, metadata.ErrInvalidPatch)
	}
	_, err := s.store.Merge(s.ctx, s.id(), json.RawMessage(`{"b":"`+strings.Repeat("x", 1<<20)+`"}`))
	s.wantError(err, metadata.ErrTooLarge)
	s.wantText(s.got(s.id()), string(before.Metadata))
}

// tooLarge fills a document up to its limit.
func (s *suite) tooLarge() {
	patch := func(name string, bytes int) json.RawMessage {
		return json.RawMessage(fmt.Sprintf(`{"%s": "%s"}`, name, strings.Repeat("x", bytes-len(`, "": ""`)-len(name))))
	}
	var before metadata.Document
	for i, size := 0, 64<<10; ; i, size = i+1, min(2*size, 1<<20-2) {
		doc, err := s.store.Merge(s.ctx, s.id(), patch(fmt.Sprintf("p%02d", i), size))
		if err != nil {
			break
		}
		if before = doc; len(doc.Metadata) > 16<<20 {
			s.Fatalf("document has %d bytes", len(doc.Metadata))
		}
	}
	refused := func(patch json.RawMessage, more, most int) int {
		s.Helper()
		for range 2 {
			_, err := s.store.Merge(s.ctx, s.id(), patch)
			var sizeErr *metadata.DocumentSizeError
			if !errors.Is(err, metadata.ErrTooLarge) || errors.Is(err, metadata.ErrInvalidPatch) || !errors.As(err, &sizeErr) {
				s.Fatalf("error is %v, want a DocumentSizeError", err)
			}
			if most = cmp.Or(most, sizeErr.Max); sizeErr.Size != len(before.Metadata)+more || sizeErr.Max != most {
				s.Errorf("error says %d of %d, want %d of %d", sizeErr.Size, sizeErr.Max, len(before.Metadata)+more, most)
			}
			_, err = s.store.Update(s.ctx, s.id(), func(metadata.Document) (json.RawMessage, error) { return patch, nil })
			s.wantError(err, metadata.ErrTooLarge)
		}
		if got := s.got(s.id()); got.Version != before.Version || len(got.Metadata) != len(before.Metadata) {
			s.Errorf("document has version %d and %d bytes, want %d and %d", got.Version, len(got.Metadata), before.Version, len(before.Metadata))
		}
		return most
	}
	most := refused(patch("last", 1<<20-2), 1<<20-2, 0)
	rest := most - len(before.Metadata)
	refused(patch("last", rest+1), rest+1, most)
	before = s.merged(s.id(), string(patch("last", rest)))
	if len(before.Metadata) != most {
		s.Errorf("document has %d bytes, want %d", len(before.Metadata), most)
	}
	refused(json.RawMessage(`{"n":1}`), len(`, "n": 1`), most)
	s.merged(s.id(), `{"n":1,"last":null}`)
}

func (s *suite) invalidID() {
	for _, id := range []string{"", "a\x00b", "\xff", strings.Repeat("x", 1<<20)} {
		_, err := s.store.Get(s.ctx, id)
		s.wantError(err, metadata.ErrInvalidID)
		_, err = s.store.Merge(s.ctx, id, json.RawMessage(`{"a":1}`))
		s.wantError(err, metadata.ErrInvalidID)
		_, err = s.store.Update(s.ctx, id, func(metadata.Document) (json.RawMessage, error) { return nil, nil })
		s.wantError(err, metadata.ErrInvalidID)
	}
	for i, odd := range []string{"'; DROP TABLE users; --", `"`, "$1", "%", "\\", "é😀", " "} {
		patch := fmt.Sprintf(`{"i":%d}`, i)
		s.merged(odd, patch)
		s.wantText(s.got(odd), fmt.Sprintf(`{"i": %d}`, i))
	}
}

func (s *suite) independent() {
	s.merged(s.id("a"), `{"a":1}`)
	s.merged(s.id("b"), `{"b":2}`)
	s.wantText(s.got(s.id("a")), `{"a": 1}`)
	s.wantText(s.got(s.id("b")), `{"b": 2}`)
}

func (s *suite) idsAreBytes() {
	ids := []string{s.id("ann"), s.id("Ann"), s.id("ann "), s.id("\u00e9"), s.id("e\u0301")}
	for i, id := range ids {
		if doc := s.merged(id, fmt.Sprintf(`{"i":%d}`, i)); doc.ID != id || doc.Version != 1 {
			s.Errorf("document %q has the id %q and version %d, want a new one", id, doc.ID, doc.Version)
		}
	}
	for i, id := range ids {
		s.wantText(s.got(id), fmt.Sprintf(`{"i": %d}`, i))
	}
}

func (s *suite) answersAreTheCallers() {
	patch := json.RawMessage(`{"a":"value"}`)
	doc := s.must(s.store.Merge(s.ctx, s.id(), patch))
	for i := range patch {
		patch[i] = 'x'
	}
	for i := range doc.Metadata {
		doc.Metadata[i] = 'y'
	}
	got := s.got(s.id())
	s.wantText(got, `{"a": "value"}`)
	for i := range got.Metadata {
		got.Metadata[i] = 'z'
	}
	s.wantText(s.got(s.id()), `{"a": "value"}`)
}

// count is a decide function that increments N.
func count(doc metadata.Document) (json.RawMessage, error) {
	var counted struct{ N int }
	if err := json.Unmarshal(doc.Metadata, &counted); err != nil {
		return nil, err
	}
	return json.RawMessage(fmt.Sprintf(`{"N":%d}`, counted.N+1)), nil
}

func (s *suite) update() {
	for n := range 3 {
		doc := s.must(s.store.Update(s.ctx, s.id(), count))
		s.wantText(doc, fmt.Sprintf(`{"N": %d}`, n+1))
		if doc.Version != int64(n+1) {
			s.Errorf("version is %d, want %d", doc.Version, n+1)
		}
	}
	nothing := func(metadata.Document) (json.RawMessage, error) { return nil, nil }
	doc, before := s.must(s.store.Update(s.ctx, s.id(), nothing)), s.got(s.id())
	if !reflect.DeepEqual(doc, before) {
		s.Errorf("Update without a change returns %+v of %+v", doc, before)
	}
	doc = s.must(s.store.Update(s.ctx, s.id("missing"), nothing))
	s.wantText(doc, `{}`)
	if doc.Version != 0 || !doc.UpdatedAt.IsZero() {
		s.Errorf("Update without a change makes version %d at %v", doc.Version, doc.UpdatedAt)
	}
	_, err := s.store.Get(s.ctx, s.id("missing"))
	s.wantError(err, metadata.ErrNotFound)
}

var errEnough = errors.New("enough")

func (s *suite) updateError() {
	s.merged(s.id(), `{"a":1}`)
	for _, id := range []string{s.id(), s.id("missing")} {
		_, err := s.store.Update(s.ctx, id, func(metadata.Document) (json.RawMessage, error) {
			return json.RawMessage(`{"a":2}`), errEnough
		})
		s.wantError(err, errEnough)
	}
	s.wantText(s.got(s.id()), `{"a": 1}`)
	_, err := s.store.Get(s.ctx, s.id("missing"))
	s.wantError(err, metadata.ErrNotFound)
}

func (s *suite) updatePanic() {
	s.merged(s.id(), `{"a":1}`)
	func() {
		defer func() {
			if recover() == nil {
				s.Error("the panic ended in Update")
			}
		}()
		s.store.Update(s.ctx, s.id(), func(metadata.Document) (json.RawMessage, error) { panic("decide") })
	}()
	s.wantText(s.merged(s.id(), `{"b":2}`), `{"a": 1, "b": 2}`)
}

// writers runs fn in n goroutines at once.
func (s *suite) writers(n int, fn func(i int) (metadata.Document, error)) []metadata.Document {
	docs := make([]metadata.Document, n)
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range n {
		wg.Go(func() {
			<-start
			doc, err := fn(i)
			if err != nil {
				s.Errorf("writer %d: %v", i, err)
			}
			docs[i] = doc
		})
	}
	close(start)
	wg.Wait()
	return docs
}

func (s *suite) concurrentMerges() {
	const n = 64
	docs := s.writers(n, func(i int) (metadata.Document, error) {
		return s.store.Merge(s.ctx, s.id(), json.RawMessage(fmt.Sprintf(`{"w%d":%d,"last":%d}`, i, i, i)))
	})
	s.history(docs, func(i int) string { return fmt.Sprintf(`{"w%d":%d,"last":%d}`, i, i, i) })
}

func (s *suite) concurrentUpdates() {
	const n = 16
	docs := s.writers(n, func(i int) (metadata.Document, error) {
		if i%2 == 0 {
			return s.store.Merge(s.ctx, s.id(), json.RawMessage(fmt.Sprintf(`{"w%d":1}`, i)))
		}
		return s.store.Update(s.ctx, s.id(), func(metadata.Document) (json.RawMessage, error) {
			return json.RawMessage(fmt.Sprintf(`{"w%d":1}`, i)), nil
		})
	})
	s.history(docs, func(i int) string { return fmt.Sprintf(`{"w%d":1}`, i) })
}

func (s *suite) counter() {
	docs := s.writers(64, func(i int) (metadata.Document, error) {
		switch i % 8 {
		case 6:
			_, err := s.store.Update(s.ctx, s.id(), func(metadata.Document) (json.RawMessage, error) { return nil, errEnough })
			s.wantError(err, errEnough)
		case 7:
			_, err := s.store.Update(s.ctx, s.id(), func(metadata.Document) (json.RawMessage, error) { return json.RawMessage(`7`), nil })
			s.wantError(err, metadata.ErrInvalidPatch)
		default:
			return s.store.Update(s.ctx, s.id(), count)
		}
		return metadata.Document{}, nil
	})
	counted := slices.DeleteFunc(docs, func(doc metadata.Document) bool { return doc.ID == "" })
	slices.SortFunc(counted, func(a, b metadata.Document) int { return int(a.Version - b.Version) })
	for i, doc := range counted {
		s.wantText(doc, fmt.Sprintf(`{"N": %d}`, i+1))
		if doc.Version != int64(i+1) {
			s.Errorf("version %d counts %d", doc.Version, i+1)
		}
	}
}

// history checks that the answers, in the order of their versions, are what the patches make of
// {} one after the other, and that the last is stored.
func (s *suite) history(docs []metadata.Document, patch func(i int) string) {
	byVersion := map[int64]int{}
	for i, doc := range docs {
		byVersion[doc.Version] = i
	}
	if len(byVersion) != len(docs) {
		s.Fatalf("%d answers have %d versions", len(docs), len(byVersion))
	}
	text := json.RawMessage(`{}`)
	for v := range docs {
		i, ok := byVersion[int64(v+1)]
		if !ok {
			s.Fatalf("nobody was given version %d", v+1)
		}
		var err error
		if text, err = metadata.MergePatch(text, json.RawMessage(patch(i))); err != nil {
			s.Fatal(err)
		}
		s.wantText(docs[i], string(text))
	}
	s.wantText(s.got(s.id()), string(text))
}

func (s *suite) endedContext() {
	ctx, cancel := context.WithCancelCause(s.ctx)
	why := errors.New("why")
	cancel(why)
	_, err := s.store.Merge(ctx, s.id(), json.RawMessage(`{"a":1}`))
	s.wantError(err, context.Canceled)
	s.wantError(err, why)
	if errors.Is(err, lock.ErrBusy) {
		s.Errorf("error is %v, and nobody has the document's lock", err)
	}
	_, err = s.store.Update(ctx, s.id(), func(metadata.Document) (json.RawMessage, error) {
		s.Error("decide was called")
		return nil, nil
	})
	s.wantError(err, why)
	_, err = s.store.Get(s.ctx, s.id())
	s.wantError(err, metadata.ErrNotFound)
}

// holdOfAnotherLocker holds a document's key in a Locker that the store does not use. Other
// writers do not wait for it, its context gives no access, and a shared hold refuses no write.
func (s *suite) holdOfAnotherLocker() {
	store, ok := s.store.(interface{ Key(id string) lock.Key })
	if !ok {
		return
	}
	key := store.Key(s.id())
	for _, take := range []func(context.Context, lock.Key) (*lock.Held, error){lock.NewMemory().Lock, lock.NewMemory().RLock} {
		held, err := take(s.ctx, key)
		if err != nil {
			s.Fatal(err)
		}
		s.must(s.store.Merge(held.Context(), s.id(), json.RawMessage(`{"a":1}`)))
		s.must(s.store.Merge(s.ctx, s.id(), json.RawMessage(`{"a":2}`)))
		if err := held.Unlock(); err != nil {
			s.Fatal(err)
		}
	}
}

func (s *suite) atLeast() {
	s.merged(s.id(), `{"n":1}`)
	written := s.merged(s.id(), `{"n":2}`)
	for version := range written.Version + 1 {
		s.wantText(s.must(s.store.Get(metadata.AtLeast(s.ctx, version), s.id())), `{"n": 2}`)
	}
	later := metadata.AtLeast(s.ctx, written.Version+1)
	_, err := s.store.Get(later, s.id())
	s.wantStale(err, written.Version+1, written.Version)
	_, err = s.store.Update(later, s.id(), func(metadata.Document) (json.RawMessage, error) {
		s.Error("decided on what is older")
		return nil, nil
	})
	s.wantStale(err, written.Version+1, written.Version)
	_, err = s.store.Get(later, s.id("missing"))
	s.wantStale(err, written.Version+1, 0)
	s.must(s.store.Merge(later, s.id(), json.RawMessage(`{"n":3}`)))
	s.wantText(s.must(s.store.Get(later, s.id())), `{"n": 3}`)
}

func (s *suite) wantStale(err error, want, have int64) {
	s.Helper()
	var stale *metadata.StaleError
	if s.wantError(err, metadata.ErrStale); !errors.As(err, &stale) || stale.Want != want || stale.Have != have {
		s.Errorf("error is %v, want a StaleError of %d and %d", err, want, have)
	}
}

// watch watches two documents while others write them, if the store has Watch.
func (s *suite) watch() {
	store, ok := s.store.(interface {
		Watch(ctx context.Context, ids ...string) iter.Seq2[metadata.Document, error]
	})
	if !ok {
		return
	}
	const writes = 50
	ctx, cancel := context.WithCancelCause(s.ctx)
	defer cancel(nil)
	why := errors.New("why")
	var writers sync.WaitGroup
	defer writers.Wait()
	last := map[string]int64{}
	for doc, err := range store.Watch(ctx, s.id(), s.id(2)) {
		before, told := last[doc.ID]
		switch {
		case err != nil:
			s.wantError(err, why)
			s.wantError(err, context.Canceled)
			if len(last) != 2 || last[s.id()] != writes || last[s.id(2)] != writes {
				s.Errorf("the last versions told are %v", last)
			}
			return
		case !told && (doc.Metadata != nil || doc.Version != 0):
			s.Errorf("a missing document is told as %s, version %d", doc.Metadata, doc.Version)
		case told && doc.Version <= before:
			s.Errorf("version %d is told after %d", doc.Version, before)
		case told:
			s.wantText(doc, fmt.Sprintf(`{"N": %d}`, doc.Version))
		}
		if last[doc.ID] = doc.Version; !told && len(last) == 2 {
			for id := range last {
				writers.Go(func() {
					for range writes {
						s.must(s.store.Update(s.ctx, id, count))
					}
				})
			}
		}
		if last[s.id()] == writes && last[s.id(2)] == writes {
			cancel(why)
		}
	}
	s.Error("the loop ends without an error")
}

// with returns the store with a token, or nil if it has no Once.
func (s *suite) with(token string) metadata.MetadataStore {
	switch store := s.store.(type) {
	case *metadata.Postgres:
		return store.Once(token)
	case *metadata.Memory:
		return store.Once(token)
	case interface {
		Once(string) metadata.MetadataStore
	}:
		return store.Once(token)
	}
	return nil
}

// hasOnce reports whether the store has tokens.
func (s *suite) hasOnce() bool {
	store := s.with("")
	if store == nil {
		return false
	}
	_, err := store.Merge(s.ctx, s.id(), json.RawMessage(`{}`))
	return !errors.Is(err, metadata.ErrUnsupported)
}

// wantRepeated checks that a write was a repetition of the one that made a version.
func (s *suite) wantRepeated(doc metadata.Document, made int64) {
	s.Helper()
	if !doc.Repeated || doc.Made != made || doc.ID != s.id() {
		s.Errorf("document %q: repeated %v, made %d, want a repetition of what made %d", doc.ID, doc.Repeated, doc.Made, made)
	}
}

func (s *suite) wantFirst(doc metadata.Document, version int64) {
	s.Helper()
	if doc.Repeated || doc.Made != 0 || doc.Version != version {
		s.Errorf("version %d, repeated %v, made %d, want version %d, and no repetition", doc.Version, doc.Repeated, doc.Made, version)
	}
}

// A storeDeletes is a store that also has Replace and Delete.
type storeDeletes interface {
	Replace(ctx context.Context, id string, document json.RawMessage) (metadata.Document, error)
	Delete(ctx context.Context, id string) error
}

func (s *suite) once() {
	if !s.hasOnce() {
		return
	}
	s.wantFirst(s.must(s.with("merge").Merge(s.ctx, s.id(), json.RawMessage(`{"by":1}`))), 1)
	s.wantFirst(s.must(s.with("idle").Merge(s.ctx, s.id(), json.RawMessage(`{}`))), 1)
	s.merged(s.id(), `{"by":2}`)
	s.wantFirst(s.must(s.with("update").Update(s.ctx, s.id(), count)), 3)
	const now = `{"N": 1, "by": 2}`
	again := func(doc metadata.Document, made int64) {
		s.Helper()
		s.wantRepeated(doc, made)
		s.wantText(doc, now)
		if doc.Version != 3 {
			s.Errorf("version is %d, want 3", doc.Version)
		}
	}
	again(s.must(s.with("merge").Merge(s.ctx, s.id(), json.RawMessage(` { "by" : 1 } `))), 1)
	again(s.must(s.with("idle").Merge(s.ctx, s.id(), json.RawMessage(`{}`))), 1)
	again(s.must(s.with("update").Update(s.ctx, s.id(), count)), 3) // it may decide, which counts for nothing
	s.wantText(s.got(s.id()), now)

	store, ok := s.with("replace").(storeDeletes)
	if !ok {
		return
	}
	s.wantFirst(s.must(store.Replace(s.ctx, s.id(), json.RawMessage(`{"r":1}`))), 4)
	s.merged(s.id(), `{"by":3}`)
	s.wantRepeated(s.must(store.Replace(s.ctx, s.id(), json.RawMessage(`{"r":1}`))), 4)
	for range 2 {
		if err := s.with("delete").(storeDeletes).Delete(s.ctx, s.id()); err != nil {
			s.Errorf("Delete: %v", err)
		}
	}
	doc := s.must(s.with("merge").Merge(s.ctx, s.id(), json.RawMessage(`{"by":1}`)))
	if s.wantRepeated(doc, 1); doc.Metadata != nil || doc.Version != 0 {
		s.Errorf("of a document that is gone there is %s, version %d", doc.Metadata, doc.Version)
	}
	s.wantFirst(s.merged(s.id(), `{"anew":1}`), 1)
	if err := s.with("delete").(storeDeletes).Delete(s.ctx, s.id()); err != nil {
		s.Errorf("Delete: %v", err)
	}
	s.wantText(s.got(s.id()), `{"anew": 1}`)
}

// onceOfMany makes each of several writes by several callers at once.
func (s *suite) onceOfMany() {
	if !s.hasOnce() {
		return
	}
	const writes, callers = 20, 4
	var callersOf sync.WaitGroup
	first, made := make([]int64, writes), make([][callers]int64, writes)
	var mu sync.Mutex
	for i := range writes {
		for n := range callers {
			callersOf.Go(func() {
				doc := s.must(s.with(fmt.Sprint(i)).Update(s.ctx, s.id(), count))
				mu.Lock()
				defer mu.Unlock()
				if made[i][n] = doc.Made; !doc.Repeated {
					if first[i] != 0 {
						s.Errorf("write %d is made as versions %d and %d", i, first[i], doc.Version)
					}
					made[i][n], first[i] = doc.Version, doc.Version
				}
			})
		}
	}
	callersOf.Wait()
	for i := range writes {
		if want := [callers]int64{first[i], first[i], first[i], first[i]}; first[i] == 0 || made[i] != want {
			s.Errorf("write %d: the first was version %d, and told was %v", i, first[i], made[i])
		}
	}
	s.wantText(s.got(s.id()), fmt.Sprintf(`{"N": %d}`, writes))
}

func (s *suite) onceFails() {
	if !s.hasOnce() {
		return
	}
	why := errors.New("why")
	_, err := s.with("t").Update(s.ctx, s.id(), func(metadata.Document) (json.RawMessage, error) { return nil, why })
	s.wantError(err, why)
	_, err = s.with("t").Merge(s.ctx, s.id(), json.RawMessage(`{`))
	s.wantError(err, metadata.ErrInvalidPatch)
	s.wantFirst(s.must(s.with("t").Merge(s.ctx, s.id(), json.RawMessage(`{"n":1}`))), 1)
}

func (s *suite) onceForOne() {
	if !s.hasOnce() {
		return
	}
	s.must(s.with("t").Merge(s.ctx, s.id(), json.RawMessage(`{"n":1}`)))
	s.wantFirst(s.must(s.with("t").Merge(s.ctx, s.id(2), json.RawMessage(`{"n":1}`))), 1)
	_, err := s.with("t").Merge(s.ctx, s.id(), json.RawMessage(`{"n":2}`))
	s.wantError(err, metadata.ErrTokenReused)
	_, err = s.with("t").Update(s.ctx, s.id(), count)
	var reused *metadata.TokenError
	if s.wantError(err, metadata.ErrTokenReused); !errors.As(err, &reused) || reused.Made != 1 {
		s.Errorf("error is %v, want a TokenError of version 1", err)
	}
	for _, token := range []string{"", "\x00", "\xff", strings.Repeat("t", metadata.MaxTokenLen+1)} {
		_, err = s.with(token).Merge(s.ctx, s.id(), json.RawMessage(`{"n":3}`))
		s.wantError(err, metadata.ErrInvalidToken)
	}
	s.must(s.with(strings.Repeat("t", metadata.MaxTokenLen)).Merge(s.ctx, s.id(), json.RawMessage(`{"n":1}`)))
	s.wantText(s.got(s.id()), `{"n": 1}`)
	if got := s.got(s.id()); got.Version != 1 || got.Repeated {
		s.Errorf("the document is %+v", got)
	}
}
