package jsonbtest

import (
	"math/big"
	"strings"
)

// edges are exponents at and about what integer types, PostgreSQL and package
// jsonb can hold.
func edges() (exponents []string) {
	about := func(edge *big.Int) {
		for d := int64(-4); d <= 4; d++ {
			exponents = append(exponents, new(big.Int).Add(edge, big.NewInt(d)).String())
		}
	}
	for _, n := range []int64{4, 1024, 16383, 131072} {
		about(big.NewInt(n))
	}
	for _, bits := range []uint{7, 8, 15, 16, 30, 31, 32, 53, 62, 63, 64, 65, 128} {
		about(new(big.Int).Lsh(big.NewInt(1), bits))
	}
	return append(exponents, "0001", strings.Repeat("0", 1000)+"12", "00009223372036854775807", strings.Repeat("9", 1000))
}

// Numbers are all that can be made of these exponents and mantissas at theirs.
func Numbers() (all []string) {
	zeros := strings.Repeat("0", 1022)
	for _, mantissa := range []string{
		"0", "0.0", "0.000", "1", "12", "9.75", "0.1", "0.010", "10.0", "0." + zeros, "0." + zeros + "1", "1" + zeros, "1" + zeros + "0.5",
	} {
		for _, exponent := range edges() {
			for _, e := range []string{"e", "E+", "e-"} {
				all = append(all, mantissa+e+exponent, "-"+mantissa+e+exponent)
			}
		}
	}
	return all
}
