package printable_test

import (
	"testing"

	"github.com/stretchr/testify/assert"

	"example.com/lockstore/internal/printable"
)

func TestText(t *testing.T) {
	for text, want := range map[string]string{
		"":                    "",
		"metadata/users/42":   "metadata/users/42",
		`"a"."b"/c\d e`:       `"a"."b"/c\d e`,
		"Grüße/世界/😀":          "Grüße/世界/😀",
		"e\u0301":             "e\u0301",
		"a\nb":                `"a\nb"`,
		"\x1b[2J":             `"\x1b[2J"`,
		"\u009b2J":            `"\u009b2J"`,
		"a\u202eb":            `"a\u202eb"`,
		"a\u2066b\u2069":      `"a\u2066b\u2069"`,
		"a\u200bb":            `"a\u200bb"`,
		"a\u2028b":            `"a\u2028b"`,
		"a\u00a0b":            `"a\u00a0b"`,
		"\x7f":                `"\x7f"`,
		"a\xffb":              `"a\xffb"`,
		"\U000e0041":          `"\U000e0041"`,
		"say \"\r\n\" to \\n": `"say \"\r\n\" to \\n"`,
	} {
		assert.Equal(t, want, printable.Text(text))
	}
}
