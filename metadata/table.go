package metadata

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Table says where in the database the documents are. The zero value is the default table
// lockstore_metadata, found by the search path, with versions and times, in which writes
// create missing documents. A Table with only a Schema, an Owner or Tokens is the default
// table in that schema.
//
// A host's own table needs a unique id and a jsonb column; NULL in it counts as an empty
// document. Triggers, constraints, row-level security and partitions work as for any other
// INSERT or UPDATE, and so do views that the server updates by itself. A trigger must not
// change the id or a scope; the version that it gives a row is the one returned (for all writes
// that share the commit, if it counts commits).
//
// Two ids are the same only if their bytes are. The first operation asks the server about the
// table, and every operation fails with a [*TableError] if
//
//   - the column of the id, or of a Scope, treats values as equal that are written differently
//     (citext, char(n), a collation that is not deterministic);
//   - INSTEAD OF triggers or rules would lose merges.
type Table struct {
	// Schema is the table's schema. Empty: the one in which the search path finds it. It is
	// part of the lock's key: all stores of a table must name it, or none.
	Schema string

	// Name is the table's name. Empty: the default table, of which only Schema, Owner and
	// Tokens can be set.
	Name string

	// Owner is a role whose objects [Postgres.Migrate] trusts, besides those that it trusts
	// anyway: a role that migrates for others, for example. Empty: none.
	Owner string

	ID     string // the column of the id; empty: "id"
	IDType Type   // the type of that column; Text if it is not one of the others

	Column    string // the jsonb column; empty: "metadata"
	Version   string // a bigint column that counts changes; empty: there is none
	UpdatedAt string // a timestamptz column; empty: there is none

	// Create makes writes insert missing rows (upsert), each by one INSERT of the final
	// document, and allows Delete, which removes rows. Without it the rows are the host's:
	// writes of a missing one fail with [ErrNotFound].
	Create bool

	// Tokens is the table of the tokens of [Postgres.Once], in the same Schema. It can be
	// [DefaultTokens]. [Postgres.Migrate] creates it. Tables and scopes can share one. Empty:
	// there is none, and no Once.
	Tokens string

	// Scope restricts the store to the rows in which these columns have these values, such as
	// the rows of one tenant. It is part of the lock's key.
	Scope []Scope
}

// Scope is one condition of a [Table]: that a column has a value. The values of all scopes
// have 128 bytes together at most.
type Scope struct {
	Column string // its name
	Type   Type   // what it is; the zero value is Text
	Value  string // as text
}

// Type is the type of a column that identifies rows.
type Type string

// Types of columns that identify rows.
const (
	Text   Type = "" // text, varchar and domains over them
	UUID   Type = "uuid"
	BigInt Type = "bigint" // and the smaller integers
)

// DefaultTable is the name of the default table, which [Postgres.Migrate] creates.
const DefaultTable = "lockstore_metadata"

// MaxIDLen is the maximum length of an id, in bytes.
const MaxIDLen = 512

// maxScopeLen bounds the values of all scopes, so that a lock's key has room for them.
const maxScopeLen = 128

func (t Table) withDefaults() (Table, error) {
	if t.Name == "" {
		if t.ID+string(t.IDType)+t.Column+t.Version+t.UpdatedAt != "" {
			return t, fmt.Errorf("%w: Table without a Name", ErrInvalidOptions)
		}
		t.Name, t.Version, t.UpdatedAt, t.Create = DefaultTable, "version", "updated_at", true
		if t.Scope != nil {
			return t, fmt.Errorf("%w: the default table has no columns for a Scope", ErrInvalidOptions)
		}
	}
	if t.ID == "" {
		t.ID = "id"
	}
	if t.Column == "" {
		t.Column = "metadata"
	}
	t.Scope = slices.Clone(t.Scope)
	names := []string{t.Name, t.ID, t.Column}
	for _, optional := range []string{t.Schema, t.Owner, t.Version, t.UpdatedAt, t.Tokens} {
		if optional != "" {
			names = append(names, optional)
		}
	}
	scopes := 0
	for i, s := range t.Scope {
		names = append(names, s.Column)
		value, problem := s.Type.canonical(s.Value)
		if s.Type.sql() == "" {
			problem = fmt.Sprintf("unknown type %.80q", s.Type)
		}
		if scopes += len(value); problem == "" && scopes > maxScopeLen {
			problem = fmt.Sprintf("longer than %d bytes", maxScopeLen)
		}
		if problem != "" {
			return t, fmt.Errorf("%w: value of scope %q: %s", ErrInvalidOptions, s.Column, problem)
		}
		t.Scope[i].Value = value
	}
	for _, name := range names {
		if problem := checkName(name); problem != "" {
			return t, fmt.Errorf("%w: identifier %.80q %s", ErrInvalidOptions, name, problem)
		}
	}
	if t.Tokens == t.Name {
		return t, fmt.Errorf("%w: Table.Tokens is the table of the documents", ErrInvalidOptions)
	}
	if t.IDType.sql() == "" {
		return t, fmt.Errorf("%w: type %.80q", ErrInvalidOptions, t.IDType)
	}
	return t, nil
}

// checkName returns what keeps a name from being an identifier (PostgreSQL documentation,
// section 4.1.1), or "".
func checkName(name string) string {
	switch {
	case name == "":
		return "is empty"
	case len(name) > 63:
		return "is longer than 63 bytes"
	case strings.IndexByte(name, 0) >= 0:
		return "contains NUL"
	case !utf8.ValidString(name):
		return "is not valid UTF-8"
	}
	return ""
}

// quoteName quotes an identifier. Names get into SQL in no other way.
func quoteName(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// qualify quotes the name of something in the table's schema.
func (t *Table) qualify(name string) string {
	if t.Schema == "" {
		return quoteName(name)
	}
	return quoteName(t.Schema) + "." + quoteName(name)
}

// keyParts are the name of a document's lock without the document's id. Processes with the
// same [Table] agree on them.
func (t *Table) keyParts() []string {
	parts := []string{"metadata", t.qualify(t.Name) + "." + quoteName(t.Column)}
	for _, s := range t.Scope {
		parts = append(parts, quoteName(s.Column)+"="+s.Value)
	}
	return slices.Clip(parts) // so that append copies them
}

// sql is the name of the type in a cast.
func (t Type) sql() string {
	switch t {
	case Text:
		return "pg_catalog.text"
	case UUID:
		return "pg_catalog.uuid"
	case BigInt:
		return "bigint" // a key word, and nothing that a search path could find
	}
	return ""
}

// maxLen is the maximum length of a canonical value, in bytes.
func (t Type) maxLen() int {
	switch t {
	case UUID:
		return len("00000000-0000-0000-0000-000000000000")
	case BigInt:
		return len("-9223372036854775808")
	}
	return MaxIDLen
}

// canonical returns the canonical form of a value of this type, or else what is wrong with it.
// Two ways to write an id would be two lock keys.
func (t Type) canonical(s string) (value, problem string) {
	switch {
	case s == "":
		return "", "empty"
	case len(s) > MaxIDLen:
		return "", fmt.Sprintf("longer than %d bytes", MaxIDLen)
	case strings.IndexByte(s, 0) >= 0:
		return "", "contains NUL"
	case !utf8.ValidString(s):
		return "", "not valid UTF-8"
	}
	switch t {
	case UUID:
		if !isUUID(s) {
			return "", "not a UUID of the form 8-4-4-4-12"
		}
		return strings.ToLower(s), ""
	case BigInt:
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return "", "not a bigint"
		}
		return strconv.FormatInt(n, 10), ""
	}
	return s, ""
}

func isUUID(s string) bool {
	if len(s) != 36 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case i == 8 || i == 13 || i == 18 || i == 23:
			if c != '-' {
				return false
			}
		case !('0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'):
			return false
		}
	}
	return true
}

// identify returns the columns that distinguish documents.
func (t *Table) identify() []string {
	columns := []string{t.ID}
	for _, s := range t.Scope {
		columns = append(columns, s.Column)
	}
	return columns
}
