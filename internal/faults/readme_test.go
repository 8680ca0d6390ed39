package faults_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The proofs that README names are tests, and each test of this module is named there.
func TestProofsAreTests(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(\w+ \*testing\.[TBF]\)`)
	tests := map[string]bool{} // and whether it is one of this module
	require.NoError(t, fs.WalkDir(os.DirFS("../.."), ".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(filepath.Join("../..", path))
		for _, m := range declared.FindAllSubmatch(text, -1) {
			name := string(m[1])
			tests[name] = tests[name] || filepath.Dir(path) == "internal/faults"
		}
		return err
	}))
	named := map[string]bool{"TestProofsAreTests": true}
	for _, m := range regexp.MustCompile("`((?:Test|Fuzz|Benchmark)\\w+)").FindAllSubmatch(readme, -1) {
		named[string(m[1])] = true
		_, there := tests[string(m[1])]
		assert.True(t, there, "README names %s", m[1])
	}
	for name, here := range tests {
		assert.True(t, named[name] || !here, "README does not name %s", name)
	}
}
