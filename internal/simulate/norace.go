//go:build !race

package simulate

// raced says that the race detector watches.
const raced = false
