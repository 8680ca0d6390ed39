package main

import (
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
)

// readRows reads the output of several runs with -json, such as the parts of a long
// measurement. Each case must be in only one of them.
func readRows(files []string) (all []row, err error) {
	from := map[string]string{}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		var rows []row
		if err := json.Unmarshal(text, &rows); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		for _, r := range rows {
			if other, there := from[r.Case]; there && other != file {
				return nil, fmt.Errorf("%s is in %s and in %s", r.Case, other, file)
			}
			from[r.Case] = file
		}
		all = append(all, rows...)
	}
	return all, nil
}

// measuredOn returns the machine of the first row, with the distances of all.
func measuredOn(rows []row) (m machine) {
	seen := map[string]bool{}
	for i, r := range rows {
		if i == 0 {
			m.what = r.Machine
		}
		if asked, _, _ := strings.Cut(r.RoundTrip, ":"); !seen[asked] {
			seen[asked] = true
			m.rtts = append(m.rtts, r.RoundTrip)
		}
	}
	slices.Sort(m.rtts)
	return m
}
