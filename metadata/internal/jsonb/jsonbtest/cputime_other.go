//go:build !unix

package jsonbtest

import "time"

var began = time.Now()

func cpuTime() time.Duration { return time.Since(began) }
