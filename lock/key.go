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

// MaxKeyLen is the longest key accepted by [Name], in bytes over all its parts.
const MaxKeyLen = 1024

// Key names a lock. Keys are comparable values: the same namespace and parts
// give the same Key in every process and every release, so that a rolling
// deploy agrees on it.
//
// A server knows a key only by its 64 bits (see [Key.Int64]). Two keys that
// share them exclude each other: a collision costs contention, never
// correctness. Locks of two 32-bit numbers, such as pg_advisory_lock(0, 42), are
// another space: no Locker takes, shows or ends any of them.
//
// The zero Key is invalid, and so is one made from bad parts. Every function
// that takes a Key answers an invalid one with an error that matches
// [ErrInvalidKey], before it asks the server anything.
type Key struct {
	id   int64
	name string // or, behind a NUL, why the key is invalid
}

// Name makes a key of the default namespace from parts, such as
// Name("user", userID). Parts are length-prefixed before they are hashed:
// Name("a", "bc") and Name("ab", "c") differ.
//
// Each part is non-empty valid UTF-8 without NUL, and together they have at
// most [MaxKeyLen] bytes; otherwise the key is invalid.
func Name(parts ...string) Key { return Namespace("").Name(parts...) }

// ID makes a key from 64 bits that the host chose itself, for sharing a lock
// with hand-written calls of pg_advisory_lock(bigint). It belongs to no
// namespace.
func ID(id int64) Key { return Key{id: id, name: "#" + strconv.FormatInt(id, 10)} }

// Namespace keeps the keys of several applications in one database apart.
// The zero value is the default namespace.
//
// The first 16 bits of a key are those of its namespace, which is how the
// locks of one application are told from others in pg_locks.
type Namespace string

// Name makes a key of this namespace from parts. It is [Name] otherwise.
func (n Namespace) Name(parts ...string) Key {
	name := strings.Join(parts, "/")
	if problem := inspect(parts); problem != "" {
		return Key{name: "\x00" + problem}
	}
	digest := hash(n, parts)
	return Key{id: int64(n.tag() | digest>>16), name: name}
}

// Contains reports whether id, as found in pg_locks, can be a key of this
// namespace. One in 65 536 keys of others can, too.
func (n Namespace) Contains(id int64) bool { return uint64(id)&tagMask == n.tag() }

const tagMask = 0xffff << 48

// tag is the namespace's share of a key: its upper 16 bits.
func (n Namespace) tag() uint64 { return hash(n, nil) & tagMask }

// hash folds a namespace and parts, each with its length before it, to the first
// 64 bits of their SHA-256.
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

// inspect says what is wrong with parts, or nothing.
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

// Int64 is the key as the server knows it: the argument for hand-written
// calls of pg_advisory_lock(bigint) and its kin
// (PostgreSQL documentation, section 9.28.10, Advisory Lock Functions).
func (k Key) Int64() int64 { return k.id }

// Guard is the number of the key's guard, a lock by which writes are told of: see
// [Held.Writing]. No other key has the same.
func (k Key) Guard() int64 { return guardOf(k.id) }

// SharedGuard is the number of the key's second guard: see [Held.Writing]. No other key
// has the same.
func (k Key) SharedGuard() int64 { return sharedGuardOf(k.id) }

// String is the key's parts joined by slashes, and quoted as Go quotes strings if
// anything in them does not print: it stands in errors and logs, whoever chose the
// parts. It is meant for people; two different keys can print alike.
func (k Key) String() string {
	if err := k.Err(); err != nil {
		return "invalid key"
	}
	return printable.Text(k.name)
}

// MarshalText implements [encoding.TextMarshaler] as String has it, for JSON and logs. A
// key cannot be made of that again: what identifies it, too, is its Int64.
func (k Key) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// Err is nil for a valid key, and otherwise matches [ErrInvalidKey].
func (k Key) Err() error {
	if k.name == "" {
		return fmt.Errorf("%w: zero Key", ErrInvalidKey)
	}
	if problem, bad := strings.CutPrefix(k.name, "\x00"); bad {
		return fmt.Errorf("%w: %s", ErrInvalidKey, problem)
	}
	return nil
}
