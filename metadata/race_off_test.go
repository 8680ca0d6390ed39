//go:build !race

package metadata_test

const slowdown = 1
