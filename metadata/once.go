package metadata

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"example.com/lockstore/internal/pgdb"
)

// DefaultTokens is a name for [Table].Tokens.
const DefaultTokens = "lockstore_once"

// MaxTokenLen is the maximum length of a token of [Postgres.Once], in bytes.
const MaxTokenLen = 255

// Once returns a view of the store whose writes of a document are made at most once for a
// token (idempotency key), by whichever process. A client that does not know what became of a
// write repeats it with the same token until it gets an answer.
//
//	doc, err := store.Once(requestID).Merge(ctx, userID, patch)
//
// The first write that is made stores its token in the same commit. A repetition changes
// nothing. It returns the current document, with [Document].Repeated set, and the version that
// the first write made in [Document].Made. What else the first write returned is not kept: a
// number that an Update draws from a counter, say, belongs into the document, beside the token's
// name, if a repetition needs it. If there is no document now, because it was deleted
// since or the first write was a Delete, it has no Metadata, and the error is still nil. A write
// that fails stores no token, and can be tried again.
//
// What identifies a write:
//
//   - A token belongs to one document: used for another document, it is another write.
//   - Used for the same document with another patch, document or operation, it fails with a
//     [*TokenError], which matches [ErrTokenReused].
//   - Any Update with the token is a repetition, as decide cannot be compared. Its decide may
//     run, as Update says, but has no effect.
//   - The conditions of [Postgres.IfVersion] and [Postgres.Privileged] are not compared: a
//     repetition returns what became of the first write, whatever version there is now.
//
// Tokens are in the table [Table].Tokens; without one, writes fail with [ErrUnsupported]. They
// are kept for at least [Options].KeepTokens. Older ones are removed a few at a time, by
// commits that store others. A token has 1 to [MaxTokenLen] bytes of UTF-8 without NUL;
// otherwise the error matches [ErrInvalidToken]. A UUID or a request's Idempotency-Key will do.
// The table has only a digest of the token and the document.
//
// In a host's transaction ([Postgres.In]) a token is kept if the host commits. A transaction
// that is not READ COMMITTED does not see what others have written since it began; a
// repetition in it can be rejected (SQLSTATE 23505) until the transaction is begun again. With
// [Postgres.MergeMany] the token applies to each patch that has none of its own.
func (p *Postgres) Once(token string) *Postgres {
	view := *p
	view.token = &token
	return &view
}

// Once returns a view of the store whose writes of a document are made at most once for a
// token: see [Postgres.Once].
func (m *Memory) Once(token string) *Memory {
	view := *m
	view.token = &token
	return &view
}

// A token identifies a write.
type token struct {
	text   string
	digest string // of what is asked, with the token, so that it tells no value
}

// tokenFor is the token of an operation that is asked for with a text, or nil.
func (d *documents) tokenFor(operation string, text []byte) *token {
	if d.token == nil {
		return nil
	}
	return &token{*d.token, digestOf(append([]byte(operation+" "+*d.token+" "), text...))}
}

// digestOf is as much of a text's SHA-256 as a uuid holds.
func digestOf(text []byte) string {
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}

// checkToken refuses what cannot be a token, or be kept.
func (d *documents) checkToken() error {
	switch {
	case d.token == nil:
		return nil
	case d.options.Table.Tokens == "":
		return fmt.Errorf("%w: Once takes a Table.Tokens", ErrUnsupported)
	case *d.token == "" || len(*d.token) > MaxTokenLen || strings.IndexByte(*d.token, 0) >= 0 || !utf8.ValidString(*d.token):
		return fmt.Errorf("%w: it has 1 to %d bytes of UTF-8 without NUL", ErrInvalidToken, MaxTokenLen)
	}
	return nil
}

// tokenKeys are what the tokens of calls are kept under: digests of each and the document.
func (o *Options) tokenKeys(id string, calls []*call) []string {
	document, _ := json.Marshal(append(o.keyParts, id)) // which cannot fail
	keys := make([]string, len(calls))
	for i, c := range calls {
		keys[i] = digestOf(append(document[:len(document):len(document)], c.token.text...))
	}
	return keys
}

// A made is a write that has been made with a token, or is about to be, by a call of the
// same commit.
type made struct {
	digest  string
	version int64
	by      *call
}

// tokens are the used tokens of a document that matter to a commit, by their text.
type tokens map[string]made

// find looks for the write that t repeats. The error says that it was another one.
func (k tokens) find(t *token) (first *made, err error) {
	if t == nil {
		return nil, nil
	}
	m, found := k[t.text]
	switch {
	case !found:
		return nil, nil
	case m.digest != t.digest:
		return nil, &TokenError{Made: m.version}
	}
	return &m, nil
}

// add notes the token of a call, for the calls behind it in the same commit.
func (k tokens) add(c *call) {
	if c.token != nil {
		k[c.token.text] = made{c.token.digest, c.doc.Version, c}
	}
}

// answer answers a call that repeats what was made, or uses its token for something else.
func (k tokens) answer(c *call, wc *workingCopy) bool {
	first, err := k.find(c.token)
	switch {
	case err != nil:
		c.err = err
	case first != nil:
		c.err = nil
		c.doc, c.changes, c.first = wc.repeated(first.version), wc.changes, first.by
	}
	return first != nil || err != nil
}

// repeated is the document for a repetition of what made a version.
func (d *workingCopy) repeated(version int64) Document {
	doc := d.present()
	doc.Repeated, doc.Made = true, version
	return doc
}

// missing answers calls where there is no document, and none of them makes it.
func (k tokens) missing(id string, calls []*call) *workingCopy {
	none := &workingCopy{doc: Document{ID: id}, removed: true}
	for _, c := range calls {
		if !k.answer(c, none) {
			c.err = ErrNotFound
		}
	}
	return none
}

// A lookup is what a commit knows of its calls' tokens.
type lookup struct {
	tokens
	calls int // the first so many have been looked up
	look  func(tokens, []*call) error
}

// upTo looks up the tokens of those of the calls for which that has not been done.
func (k *lookup) upTo(calls []*call) error {
	from := k.calls
	k.calls = len(calls)
	return k.look(k.tokens, calls[from:])
}

// used looks up the tokens of calls.
func (p *postgres) used(ctx context.Context, s session, id string, calls []*call, found tokens) error {
	calls = slices.DeleteFunc(slices.Clone(calls), func(c *call) bool { return c.token == nil })
	if len(calls) == 0 {
		return nil
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	return s.q.Query(ctx, func(row pgdb.Row) error {
		var place int64
		var m made
		err := row.Scan(&place, &m.digest, &m.version)
		if err == nil {
			found[calls[place-1].token.text] = m
		}
		return err
	}, p.sql.used.text, p.options.tokenKeys(id, calls))
}

// errUsed says that the statement that stores has found one of its tokens used meanwhile. All is
// decided anew then.
var errUsed = errors.New("metadata: a token has been used meanwhile")

// kept are the arguments of the statements that keep tokens: of each token its key, its
// digest, and how many versions before the one that is stored its write has made; and how
// many old tokens are to go.
type kept []any

// aging is how many old tokens go with one in 16, so that there are two for each.
const aging = 32

// keep are the tokens that calls leave with a working copy; nil if there are none.
func (p *postgres) keep(id string, wc *workingCopy, calls []*call) kept {
	calls = slices.DeleteFunc(slices.Clone(calls), func(c *call) bool { return c.token == nil || c.err != nil || c.doc.Repeated })
	if len(calls) == 0 {
		return nil
	}
	digests, behind, old := make([]string, len(calls)), make([]int64, len(calls)), int64(0)
	keys := p.options.tokenKeys(id, calls)
	for i, c := range calls {
		digests[i], behind[i] = c.token.digest, wc.doc.Version-c.doc.Version
		if keys[i][0] == '0' {
			old += aging
		}
	}
	return kept{keys, digests, behind, old}
}

// A keptToken is one that a [Memory] keeps.
type keptToken struct {
	id, text string
	at       time.Time
}

// keep keeps the token of what has made a version, and removes two of the oldest, as
// keptSQL does in the mean. Its caller has the mutex.
func (m *memory) keep(id string, t *token, version int64) {
	now := time.Now()
	for range 2 {
		if len(m.aging) == 0 || now.Sub(m.aging[0].at) < m.options.KeepTokens {
			break
		}
		old := m.aging[0]
		m.aging = m.aging[1:]
		if delete(m.tokens[old.id], old.text); len(m.tokens[old.id]) == 0 {
			delete(m.tokens, old.id)
		}
	}
	if m.tokens[id] == nil {
		m.tokens[id] = tokens{}
	}
	m.tokens[id][t.text] = made{digest: t.digest, version: version}
	m.aging = append(m.aging, keptToken{id, t.text, now})
}

// TokenError says that a token was used before, for another write of the same document. It
// matches [ErrTokenReused].
type TokenError struct {
	Made int64 // the version that it made; 0 if it removed the document, or the table has no versions
}

// Error returns the version.
func (e *TokenError) Error() string {
	return fmt.Sprintf("%s: for what made version %d", ErrTokenReused, e.Made)
}

// Unwrap returns [ErrTokenReused].
func (e *TokenError) Unwrap() error { return ErrTokenReused }
