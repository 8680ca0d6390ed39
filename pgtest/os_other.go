//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package pgtest
