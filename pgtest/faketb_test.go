package pgtest_test

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
)

// fakeTB records a test's failure.
type fakeTB struct {
	name     string
	failed   bool
	output   strings.Builder
	cleanups []func()
}

func (f *fakeTB) Helper()              {}
func (f *fakeTB) Name() string         { return f.name }
func (f *fakeTB) Failed() bool         { return f.failed }
func (f *fakeTB) Cleanup(clean func()) { f.cleanups = append(f.cleanups, clean) }

func (f *fakeTB) Logf(format string, args ...any) {
	fmt.Fprintf(&f.output, format+"\n", args...)
}

func (f *fakeTB) Errorf(format string, args ...any) {
	f.failed = true
	f.Logf(format, args...)
}

func (f *fakeTB) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	runtime.Goexit()
}

// fakeTest runs a test with its cleanups and returns the result.
func fakeTest(t *testing.T, test func(*fakeTB)) *fakeTB {
	f := &fakeTB{name: t.Name()}
	for _, step := range []func(){func() { test(f) }, func() {
		for _, clean := range slices.Backward(f.cleanups) {
			clean()
		}
	}} {
		done := make(chan struct{})
		go func() { defer close(done); step() }()
		<-done
	}
	return f
}
