// Package lock gives many goroutines and many processes named locks.
package lock
