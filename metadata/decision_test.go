package metadata

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Of several runs of decide only the last one counts, also where an earlier one, which led,
// was on the document that there is again.
func TestOnlyTheLastDecisionCounts(t *testing.T) {
	runs := 0
	o, err := (*Options)(nil).withDefaults()
	require.NoError(t, err)
	c := newCall(&write{decide: func(Document) (*patch, error) {
		runs++
		text, _, err := o.parseObject(json.RawMessage(`{}`))
		return &patch{text: text}, err
	}}, nil)
	c.waits()
	lead := func() {
		wc := newWorkingCopy(Document{ID: "a", Version: 3, Metadata: []byte(`{"n": 3}`)}, false, &o)
		require.NoError(t, c.apply(wc, time.Minute, func() bool { return false }, func() {}))
	}
	lead()
	lead()
	assert.Equal(t, 1, runs, "what was decided on the same document counts")
	c.answer(Document{ID: "a", Version: 4, Metadata: []byte(`{"n": 4}`)}) // of a commit that fails
	lead()
	assert.Equal(t, 3, runs)
}
