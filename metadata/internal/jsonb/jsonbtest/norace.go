//go:build !race

package jsonbtest

const Slowdown = 1
