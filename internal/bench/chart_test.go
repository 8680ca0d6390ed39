package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func exampleRows() []row {
	var rows []row
	for _, r := range []struct {
		subject    string
		rates      [3]float64
		violations int64
	}{{"lockstore (pgx)", [3]float64{2000, 20000, 40000}, 0}, {"floor: || & co", [3]float64{2100, 900, 850}, 0}, {"liar", [3]float64{0, 880, 840}, 7}} {
		for i, writers := range []string{"1", "64", "1024"} {
			rows = append(rows, row{Case: "merge/one-document/" + writers, Subject: r.subject, OpsPerSec: r.rates[i], Violations: r.violations})
		}
	}
	return rows
}

func TestPictureShowsEveryLineOnce(t *testing.T) {
	c := pictures[0].draw(exampleRows())
	c.footer = "a machine"
	text := string(c.svg())
	decoder := xml.NewDecoder(strings.NewReader(text))
	var texts []string
	var names []float64 // their positions
	for {
		token, err := decoder.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err)
		start, ok := token.(xml.StartElement)
		if !ok || start.Name.Local != "text" {
			continue
		}
		var content string
		class, y := "", 0.0
		for _, a := range start.Attr {
			switch a.Name.Local {
			case "class":
				class = a.Value
			case "y":
				y, err = strconv.ParseFloat(a.Value, 64)
				require.NoError(t, err)
			}
		}
		require.NoError(t, decoder.DecodeElement(&content, &start))
		texts = append(texts, content)
		if strings.HasPrefix(class, "name ") {
			names = append(names, y)
		}
	}
	for _, want := range []string{"lockstore", "floor: || & co", "liar: WRONG", "1024", "100 k", "writers", "a machine"} {
		assert.Contains(t, texts, want)
	}
	require.Len(t, names, 3)
	for i := 1; i < len(names); i++ {
		assert.GreaterOrEqual(t, names[i]-names[i-1], labelSpace-1.0, "names do not touch")
	}
	assert.Equal(t, 3, strings.Count(text, `<path class="line`))
	assert.Equal(t, 8, strings.Count(text, "<circle"), "what is 0 has no place on a log axis")
	assert.NotContains(t, text, "NaN")
	assert.Contains(t, text, "prefers-color-scheme: dark")
}

func TestAxesEncloseTheirValues(t *testing.T) {
	lines := []line{{points: []point{{1, 30}, {2, 4200}}}}
	assert.Equal(t, []float64{10, 100, 1000, 10000}, decades(lines))
	assert.Equal(t, []float64{0, 1000, 2000, 3000, 4000, 5000}, steps(lines))
	assert.Equal(t, []float64{1, 10}, decades(nil))
	assert.NotEmpty(t, steps(nil))
}

func TestFooterFitsIn(t *testing.T) {
	c := pictures[0].draw(exampleRows())
	c.footer = strings.Repeat("a machine with a long name, ", 8)
	lines := wrap(c.footer, lineLetters)
	assert.Len(t, lines, 2)
	for _, l := range lines {
		assert.LessOrEqual(t, len(l), lineLetters)
		assert.Contains(t, string(c.svg()), l)
	}
	assert.Equal(t, strings.Fields(c.footer), strings.Fields(strings.Join(lines, " ")))
}
