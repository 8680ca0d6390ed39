//go:build !race

package simulate

// raced reports whether the race detector is on.
const raced = false
