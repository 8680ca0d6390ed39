package metadata

import (
	"bytes"
	"slices"

	"example.com/lockstore/metadata/internal/jsonb"
)

// A draft is a document while it is being changed.
type draft struct {
	doc       Document     // as it would be if it were stored now, but for the time
	value     *jsonb.Value // what doc.Metadata says, once there has been a patch for it
	max       int          // how many bytes of it may be printed
	changes   int64        // since the draft was made
	versioned bool         // changes count as versions
	made      bool         // there was no such document
	fresh     bool         // nor is there yet, as nothing has changed it
	removed   bool

	given bool // doc.Metadata is in somebody's hands
}

// newDraft starts from a document as the database printed it.
func newDraft(doc Document, fresh bool, o *Options) *draft {
	return &draft{doc: doc, max: o.MaxDocumentBytes, made: fresh, fresh: fresh, versioned: o.Table.Version != "", given: true}
}

// document is what the draft is now, for the caller to own.
func (d *draft) document() Document {
	doc := d.doc
	if d.given {
		doc.Metadata = slices.Clone(doc.Metadata)
	}
	d.given = true
	return doc
}

// present is document, or none where there is none.
func (d *draft) present() Document {
	if d.fresh || d.removed {
		return Document{ID: d.doc.ID}
	}
	return d.document()
}

// stored is what insertSQL and saveSQL take of it.
func (d *draft) stored() []any { return []any{d.changes, string(d.doc.Metadata)} }

// merge applies a patch, which is as jsonb prints it.
func (d *draft) merge(patch []byte) error {
	if d.value == nil {
		d.value = jsonb.Open(d.doc.Metadata)
	}
	if !d.value.Merge(patch) {
		d.unchanged()
		return nil
	}
	if err := d.checkSize(d.value.Size()); err != nil {
		d.value = nil // which is of no use now
		return err
	}
	d.changed(d.value.Print())
	d.given = false
	return nil
}

// decided merges what has been decided on the draft as it is.
func (d *draft) decided(what *decision) error {
	if what.err != nil || what.patch == nil {
		return what.err
	}
	return d.merge(what.patch.text)
}

// replace makes text, which is as jsonb prints it, the document.
func (d *draft) replace(text []byte) error {
	if bytes.Equal(text, d.doc.Metadata) {
		d.unchanged()
		return nil
	}
	if err := d.checkSize(len(text)); err != nil {
		return err
	}
	d.value = nil
	d.changed(text)
	return nil
}

// remove removes the document. Nothing may change the draft after it.
func (d *draft) remove() {
	d.removed, d.doc.Version = true, 0
	d.changes++
}

// next is the draft for a write: another one, if what this one is must be stored before.
// The database is to see, and may reject, all that a write makes, also where that is
// covered by the next.
func (d *draft) next(w *write) *draft {
	switch next := (&draft{doc: d.doc, max: d.max, versioned: d.versioned, given: true}); {
	case d.removed:
		next.made, next.fresh, next.doc = true, true, Document{ID: d.doc.ID, Metadata: []byte(`{}`)}
		return next
	case w.covers && d.changes > 0:
		return next
	}
	return d
}

// checkSize refuses what makes a document larger than it may be. One that is, as it
// was made by others or under another limit, can be made smaller.
func (d *draft) checkSize(size int) error {
	if size > d.max && size > len(d.doc.Metadata) {
		return &DocumentSizeError{Size: size, Max: d.max}
	}
	return nil
}

// unchanged is told of a write that leaves the draft as it is. As the first of a fresh
// document it counts nevertheless, since it has created it.
func (d *draft) unchanged() {
	if d.fresh {
		d.changed(d.doc.Metadata)
	}
}

func (d *draft) changed(text []byte) {
	d.doc.Metadata = text
	d.fresh = false
	d.changes++
	if d.versioned {
		d.doc.Version++
	}
}
