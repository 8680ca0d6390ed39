package faults_test

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// README has a row for each test of this module. (internal/pages looks whether the tests that
// it names are there.)
func TestEachTestHasARow(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	named := map[string]bool{"TestEachTestHasARow": true}
	for _, m := range regexp.MustCompile("`((?:Test|Fuzz|Benchmark)\\w+)").FindAllSubmatch(readme, -1) {
		named[string(m[1])] = true
	}
	files, err := filepath.Glob("*_test.go")
	require.NoError(t, err)
	require.NotEmpty(t, files)
	declared := regexp.MustCompile(`(?m)^func ((?:Test|Fuzz|Benchmark)\w+)\(\w+ \*testing\.[TBF]\)`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		for _, m := range declared.FindAllSubmatch(text, -1) {
			assert.True(t, named[string(m[1])], "README does not name %s", m[1])
		}
	}
}
