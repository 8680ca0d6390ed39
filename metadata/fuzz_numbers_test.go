package metadata_test

import (
	"math/big"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
)

var numberParts = regexp.MustCompile(`^(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?$`)

// expanded is how jsonb prints a number, or "" for one that a store refuses, in big
// numbers throughout.
func expanded(number string) string {
	parts := numberParts.FindStringSubmatch(number)
	if parts == nil {
		return ""
	}
	digits, shift := parts[2]+parts[3], new(big.Int)
	if parts[4] != "" {
		shift.SetString(parts[4], 10)
	}
	if shift.CmpAbs(big.NewInt(1<<30-2)) > 0 {
		return ""
	}
	zero := strings.Trim(digits, "0") == ""
	scale := int64(len(parts[3])) - shift.Int64()
	if scale > 20_000 || scale < -2_000 && !zero {
		return ""
	}
	if scale < 0 && !zero {
		digits += strings.Repeat("0", int(-scale))
	}
	scale = max(scale, 0)
	digits = strings.Repeat("0", max(int(scale)+1-len(digits), 0)) + digits
	whole, fraction := digits[:len(digits)-int(scale)], digits[len(digits)-int(scale):]
	if whole = strings.TrimLeft(whole, "0"); whole == "" {
		whole = "0"
	}
	long := len(whole) + len(fraction)
	if parts[4] == "" {
		long -= len(strings.Trim(whole+fraction, "0")) // which take their bytes
	}
	if len(whole) > 131072 || len(fraction) > 16383 || long > 1024 {
		return ""
	}
	if fraction != "" {
		whole += "." + fraction
	}
	if !zero {
		whole = parts[1] + whole
	}
	return whole
}

// FuzzNumbers holds what a store makes of a number, wherever that is, against big numbers.
func FuzzNumbers(f *testing.F) {
	for i, number := range numbers() {
		if i%17 == 0 { // the rest is in TestNumbersAreExpanded
			f.Add(number)
		}
	}
	for _, number := range []string{
		"0", "-0", "00", "01", "-01", "+1", "1.", ".1", "-", "1e", "1e+", "-.5", "1.0", "-0.0", "0.00", "1E5", "1e05", "1e+05", "0x1", "1_0", "NaN", "Infinity",
		"2147483647", "-2147483648", "2147483648", "4294967295", "4294967296", "9223372036854775807", "-9223372036854775808", "18446744073709551615", "18446744073709551616",
	} {
		f.Add(number)
	}
	for _, n := range []int{1023, 1024, 1025, 16383, 16384} {
		zeros := strings.Repeat("0", n)
		for _, number := range []string{"1" + zeros, "0." + zeros, "0." + zeros + "1", "1." + zeros, "7" + zeros + "7", "1" + zeros[:n/2] + "." + zeros[n/2:], strings.Repeat("7", n)} {
			f.Add(number)
			f.Add("-" + number)
		}
	}
	f.Fuzz(expands)
}

func expands(t *testing.T, number string) {
	if len(number) > 64<<10 || strings.Trim(number, "-+.eE0123456789") != "" {
		return
	}
	want := expanded(number)
	for _, in := range []string{`{"a": %}`, `{"a": [0, %]}`, `{"a": {"b": %}}`, `{"a": [{"b": %}, [%]]}`} {
		store := must(metadata.NewMemory(nil, nil))
		var doc metadata.Document
		var err error
		quickly(t, len(number), func() { doc, err = store.Merge(t.Context(), "a", raw("%s", strings.ReplaceAll(in, "%", number))) })
		if want == "" {
			require.ErrorIs(t, err, metadata.ErrInvalidPatch, in)
			continue
		}
		require.NoError(t, err, in)
		require.Equal(t, strings.ReplaceAll(in, "%", want), string(doc.Metadata))
	}
}

func TestNumbersAreExpanded(t *testing.T) {
	for _, number := range numbers() {
		expands(t, number)
	}
}
