package lock_test

import (
	"math"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"

	"example.com/lockstore/lock"
)

// Old and new processes of a rolling deploy agree on every key: these numbers never change.
func TestKeysNeverChange(t *testing.T) {
	for _, c := range []struct {
		key  lock.Key
		id   int64
		text string
	}{
		{lock.Name("user", "42"), -2359932870336840135, "user/42"},
		{lock.Name("a", "bc"), -2360096063735264354, "a/bc"},
		{lock.Name("ab", "c"), -2360019696342775892, "ab/c"},
		{lock.Name("abc"), -2359952960133160241, "abc"},
		{lock.Namespace("billing").Name("user", "42"), 2417961416091780346, "user/42"},
		{lock.Name("Grüße", "世界"), -2360150754122504873, "Grüße/世界"},
		{lock.ID(math.MinInt64), math.MinInt64, "#-9223372036854775808"},
	} {
		assert.NoError(t, c.key.Err())
		assert.Equal(t, c.id, c.key.Int64(), c.text)
		assert.Equal(t, c.text, c.key.String())
	}
}

func TestNamespaceKnowsItsKeys(t *testing.T) {
	billing := lock.Namespace("billing")
	for _, id := range []string{"1", "2", "3"} {
		assert.True(t, billing.Contains(billing.Name("user", id).Int64()))
		assert.False(t, billing.Contains(lock.Name("user", id).Int64()))
		assert.True(t, lock.Namespace("").Contains(lock.Name("user", id).Int64()))
	}
}

func TestBadPartsMakeAnInvalidKey(t *testing.T) {
	for name, parts := range map[string][]string{
		"no parts":      {},
		"empty part":    {"user", ""},
		"NUL":           {"a\x00b"},
		"invalid UTF-8": {"a\xff"},
		"too long":      {strings.Repeat("x", lock.MaxKeyLen), "y"},
	} {
		key := lock.Name(parts...)
		assert.ErrorIs(t, key.Err(), lock.ErrInvalidKey, name)
		assert.Equal(t, "invalid key", key.String(), name)
	}
	assert.ErrorIs(t, lock.Key{}.Err(), lock.ErrInvalidKey)
	assert.NoError(t, lock.Name(strings.Repeat("x", lock.MaxKeyLen)).Err())
}

func FuzzName(f *testing.F) {
	f.Add("a", "bc", "ab", "c")
	f.Add("user", "42", "user", "42")
	f.Add("\x00", "\xff", "", "/")
	f.Fuzz(func(t *testing.T, a, b, c, d string) {
		one, two := lock.Name(a, b), lock.Name(c, d)
		if one.Err() != nil || two.Err() != nil {
			return
		}
		same := a == c && b == d
		if same && one != two {
			t.Errorf("equal parts, different keys")
		}
		if same != (one.Int64() == two.Int64()) {
			t.Errorf("%q, %q and %q, %q share a key", a, b, c, d)
		}
	})
}
