package main

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestPagesNameTheCases(t *testing.T) {
	page := func(file string) string {
		text, err := os.ReadFile(file)
		require.NoError(t, err)
		return string(text)
	}
	own, landing := page("README.md"), page("../../README.md")
	names := map[string]bool{}
	for _, c := range suite(0, time.Millisecond) {
		names[c.name] = true
		family, _, _ := strings.Cut(c.name, "/")
		assert.True(t, strings.Contains(own, "| `"+family+"/"), "README's table of cases has %s", family)
	}
	assert.True(t, strings.Contains(landing, fmt.Sprintf("# %d cases,", len(suite(0)))), "lockstore's README has their number")
	for _, l := range readmeLines {
		assert.True(t, names[l.inOne], l.inOne)
		assert.True(t, strings.Contains(landing, "| "+l.asks+" |"), "lockstore's README has the line %q", l.asks)
	}
}
