//go:build !race

package jsonbtest

// Slowdown is what the race detector makes of time.
const Slowdown = 1
