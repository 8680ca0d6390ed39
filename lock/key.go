package lock

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"

	"example.com/lockstore/internal/printable"
)

// MaxKeyLen is the maximum length of a key of [Name], in bytes over all its parts.
const MaxKeyLen = 1024

// Key names a lock. Keys are comparable values: the same namespace and parts give the same Key
// in every process and every release, so the processes of a rolling deploy agree on it.
//
// The server knows a key only by its 64 bits (see [Key.Int64]). Two keys that share them
// exclude each other: a collision costs contention, never correctness. Locks of two 32-bit
// numbers, such as pg_advisory_lock(0, 42), are a separate space: no Locker takes, shows or
// ends any of them.
//
// The zero Key is invalid, and so is one made from invalid parts. Every function that takes a
// Key answers an invalid one with an error that matches [ErrInvalidKey], before it asks the
// server.
type Key struct {
	id   int64
	name string // or, after a NUL, why the key is invalid
}

// Name returns a key of the default namespace made from parts, such as Name("user", userID).
// The length of each part is hashed with it: Name("a", "bc") and Name("ab", "c") differ.
//
// Each part is non-empty valid UTF-8 without NUL, and together they have at most [MaxKeyLen]
// bytes. Otherwise the key is invalid.
func Name(parts ...string) Key { return Namespace("").Name(parts...) }

// ID returns the key of 64 bits that the host has chosen itself, for sharing a lock with
// pg_advisory_lock(bigint) called by hand. It belongs to no namespace.
func ID(id int64) Key { return Key{id: id, name: "#" + strconv.FormatInt(id, 10)} }

// Namespace separates the keys of several applications in one database. The zero value is the
// default namespace.
//
// The first 16 bits of a key are those of its namespace. They tell the locks of one
// application from others in pg_locks.
type Namespace string

// Name returns a key of this namespace made from parts. Otherwise it is as [Name].
func (n Namespace) Name(parts ...string) Key {
	name := strings.Join(parts, "/")
	if problem := inspect(parts); problem != "" {
		return Key{name: "\x00" + problem}
	}
	digest := hash(n, parts)
	return Key{id: int64(n.tag() | digest>>16), name: name}
}

// Contains reports whether id, as found in pg_locks, can be a key of this namespace. So can
// one in 65 536 keys of other namespaces.
func (n Namespace) Contains(id int64) bool { return uint64(id)&tagMask == n.tag() }

const tagMask = 0xffff << 48

// tag returns the namespace's part of a key: its upper 16 bits.
func (n Namespace) tag() uint64 { return hash(n, nil) & tagMask }

// hash returns the first 64 bits of the SHA-256 of a namespace and parts, each preceded by its
// length.
func hash(n Namespace, parts []string) uint64 {
	b := appendPart(make([]byte, 0, 128), string(n))
	for _, p := range parts {
		b = appendPart(b, p)
	}
	sum := sha256.Sum256(b)
	return binary.BigEndian.Uint64(sum[:8])
}

func appendPart(b []byte, part string) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(part))), part...)
}

// inspect returns what is wrong with parts, or "".
func inspect(parts []string) string {
	if len(parts) == 0 {
		return "no parts"
	}
	total := 0
	for i, p := range parts {
		switch total += len(p); {
		case p == "":
			return fmt.Sprintf("part %d is empty", i+1)
		case total > MaxKeyLen:
			return fmt.Sprintf("longer than %d bytes", MaxKeyLen)
		case strings.IndexByte(p, 0) >= 0:
			return fmt.Sprintf("part %d contains NUL", i+1)
		case !utf8.ValidString(p):
			return fmt.Sprintf("part %d is not valid UTF-8", i+1)
		}
	}
	return ""
}

// Int64 returns the key as the server knows it: the argument of pg_advisory_lock(bigint) and
// the related functions (PostgreSQL documentation, section 9.28.10, Advisory Lock Functions).
func (k Key) Int64() int64 { return k.id }

// Guard returns the number of the key's guard, a lock that a writer under the key takes: see
// [Held.Writing]. No other key has the same.
func (k Key) Guard() int64 { return guardOf(k.id) }

// SharedGuard returns the number of the key's second guard: see [Held.Writing]. No other key
// has the same.
func (k Key) SharedGuard() int64 { return sharedGuardOf(k.id) }

// String returns the key's parts joined by slashes, for errors and logs. It quotes them as Go
// quotes strings if anything in them does not print, as they may come from users. It is meant
// for people; two different keys can print alike.
func (k Key) String() string {
	if err := k.Err(); err != nil {
		return "invalid key"
	}
	return printable.Text(k.name)
}

// MarshalText returns the text of String, for JSON and logs ([encoding.TextMarshaler]). A key
// cannot be made from it again; to identify the key, use Int64 as well.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Err returns nil for a valid key, and otherwise an error that matches [ErrInvalidKey].
func (k Key) Err() error {
	if k.name == "" {
		return fmt.Errorf("%w: zero Key", ErrInvalidKey)
	}
	if problem, bad := strings.CutPrefix(k.name, "\x00"); bad {
		return fmt.Errorf("%w: %s", ErrInvalidKey, problem)
	}
	return nil
}
