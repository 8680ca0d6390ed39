package faults_test

import (
	"flag"
	"fmt"
	"os"
	"slices"
	"sync"
	"testing"
)

func TestMain(m *testing.M) {
	if os.Getenv(childEnv) != "" {
		os.Exit(child())
	}
	flag.Parse()
	flag.Set("test.parallel", "8") // they mostly wait
	code := m.Run()
	if len(lacking.what) > 0 {
		slices.Sort(lacking.what)
		fmt.Println("\nNot shown, for want of something on this machine:")
		for _, what := range lacking.what {
			fmt.Println("  " + what)
		}
	}
	os.Exit(code)
}

// lacking lists the tests that the environment cannot run.
var lacking struct {
	sync.Mutex
	what []string
}

// lacks fails a test that this machine cannot run.
func lacks(t testing.TB, what string, err error) {
	t.Helper()
	lacking.Lock()
	lacking.what = append(lacking.what, fmt.Sprintf("%s: %s: %v", t.Name(), what, err))
	lacking.Unlock()
	t.Fatalf("the environment lacks %s: %v", what, err)
}
