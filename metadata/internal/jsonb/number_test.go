package jsonb_test

import (
	"math/big"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata/internal/jsonb"
	"example.com/lockstore/metadata/internal/jsonb/jsonbtest"
)

// stored are the limits of what a store stores by default.
var stored = jsonb.Limits{Depth: 64, Digits: 1024, Bytes: 2 << 20}

func TestNumbersWithExponents(t *testing.T) {
	zeros := func(n int) string { return strings.Repeat("0", n) }
	for number, want := range map[string]string{
		"0e5":                                "0",
		"0E+0":                               "0",
		"-0e1":                               "0",
		"0.000e-7":                           "0." + zeros(10),
		"-0.000e2":                           "0.0",
		"0.000e3":                            "0",
		"0e1024":                             "0",
		"0e1073741822":                       "0",
		"0e-1023":                            "0." + zeros(1023),
		"1e0000000001":                       "10",
		"1e-" + zeros(400) + "1":             "0.1",
		"0e" + zeros(400) + "9":              "0",
		"12.50e1":                            "125.0",
		"12.50e2":                            "1250",
		"-12.50e-3":                          "-0.01250",
		"1.5e0":                              "1.5",
		"1e1023":                             "1" + zeros(1023),
		"1e-1023":                            "0." + zeros(1022) + "1",
		"0.0001e1027":                        "1" + zeros(1023),
		"0." + zeros(2000) + "1e2001":        "1",
		"1e1024":                             "",
		"1e-1024":                            "",
		"0e-1024":                            "",
		"0.0e-1023":                          "",
		"0e1073741823":                       "",
		"0e2147483647":                       "",
		"0e2147483648":                       "",
		"0e9223372036854775807":              "",
		"0.0e-9223372036854775807":           "",
		"1e2147483647":                       "",
		"1e4294967295":                       "",
		"1.0e-2147483648":                    "",
		"1e9223372036854775807":              "",
		"12e9223372036854775806":             "",
		"0.1e-9223372036854775807":           "",
		"1e-9223372036854775808":             "",
		"1e18446744073709551616":             "",
		"-1E+99999999999999999999999":        "",
		"1e-" + strings.Repeat("9", 100_000): "",
	} {
		name := number[:min(len(number), 40)]
		got, _, err := jsonb.Parse([]byte(`{"a":[0,`+number+`]}`), stored)
		if want == "" {
			var refused *jsonb.Error
			if assert.ErrorAs(t, err, &refused, name) {
				assert.Equal(t, "$.a[1]", refused.Path, name)
			}
		} else if assert.NoError(t, err, name) {
			assert.Equal(t, `{"a": [0, `+want+`]}`, string(got), name)
		}
	}
}

var numberParts = regexp.MustCompile(`^(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?$`)

// expanded is how jsonb prints a number, or "" for one that is refused, in big
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

// FuzzNumbers holds what becomes of a number, wherever it is, against big numbers.
func FuzzNumbers(f *testing.F) {
	for i, number := range jsonbtest.Numbers() {
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
		var got []byte
		var err error
		jsonbtest.Quickly(t, len(number), func() { got, _, err = jsonb.Parse([]byte(strings.ReplaceAll(in, "%", number)), stored) })
		if want == "" {
			require.Error(t, err, in)
			continue
		}
		require.NoError(t, err, in)
		require.Equal(t, strings.ReplaceAll(in, "%", want), string(got))
	}
}

func TestNumbersAreExpanded(t *testing.T) {
	for _, number := range jsonbtest.Numbers() {
		expands(t, number)
	}
}
