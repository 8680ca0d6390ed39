//go:build race

package metadata_test

// slowdown is what the race detector makes of time.
const slowdown = 10
