package lock_test

import (
	"flag"
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	flag.Set("test.parallel", "8") // those tests spend their time waiting
	os.Exit(m.Run())
}
