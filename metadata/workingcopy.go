package metadata

import (
	"bytes"
	"slices"

	"example.com/lockstore/metadata/internal/jsonb"
)

// A workingCopy is a copy of a document, on which the writes of a batch are made one after
// the other before the result is stored. Each write is made by one of its methods merge,
// replace, remove and decided.
//
//	stored document --next--> working copy; a new one where the last must be stored first
//	fresh    no such document yet: the first write creates it, even if it changes nothing
//	removed  nothing may change it after that; a later write gets a new, fresh one
type workingCopy struct {
	doc       Document     // as if it were stored now, except for UpdatedAt
	value     *jsonb.Value // doc.Metadata, opened for the first patch
	max       int          // of bytes in its text
	changes   int64        // since it was made
	versioned bool         // changes count as versions
	made      bool         // there was no such document
	fresh     bool         // there still is none: nothing has changed it
	removed   bool

	given bool // doc.Metadata is shared with a caller or another copy
}

// newWorkingCopy makes a working copy of a document as the database has printed it.
func newWorkingCopy(doc Document, fresh bool, o *Options) *workingCopy {
	return &workingCopy{doc: doc, max: o.MaxDocumentBytes, made: fresh, fresh: fresh, versioned: o.Table.Version != "", given: true}
}

// document is the document as it is now, for the caller to own.
func (d *workingCopy) document() Document {
	doc := d.doc
	if d.given {
		doc.Metadata = slices.Clone(doc.Metadata)
	}
	d.given = true
	return doc
}

// present is document, with the ID alone if there is no document.
func (d *workingCopy) present() Document {
	if d.fresh || d.removed {
		return Document{ID: d.doc.ID}
	}
	return d.document()
}

// stored is its arguments for insertSQL and saveSQL.
func (d *workingCopy) stored() []any { return []any{d.changes, string(d.doc.Metadata)} }

// merge applies a patch, which is as jsonb prints it.
func (d *workingCopy) merge(patch []byte) error {
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

// decided merges what was decided on the working copy as it is.
func (d *workingCopy) decided(what *decision) error {
	if what.err != nil || what.patch == nil {
		return what.err
	}
	return d.merge(what.patch.text)
}

// replace makes text, which is as jsonb prints it, the document's.
func (d *workingCopy) replace(text []byte) error {
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

// remove removes the document. Nothing may change this copy after it.
func (d *workingCopy) remove() {
	d.removed, d.doc.Version = true, 0
	d.changes++
}

// next is the working copy for a write: another one if this one must be stored first. The
// database is to see, and may reject, all that a write makes, even if the next write covers
// it.
func (d *workingCopy) next(w *write) *workingCopy {
	switch next := (&workingCopy{doc: d.doc, max: d.max, versioned: d.versioned, given: true}); {
	case d.removed:
		next.made, next.fresh, next.doc = true, true, Document{ID: d.doc.ID, Metadata: []byte(`{}`)}
		return next
	case w.covers && d.changes > 0:
		return next
	}
	return d
}

// checkSize refuses a write that makes a document larger than it may be. A document that is
// too large already, made by others or under another limit, can be made smaller.
func (d *workingCopy) checkSize(size int) error {
	if size > d.max && size > len(d.doc.Metadata) {
		return &DocumentSizeError{Size: size, Max: d.max}
	}
	return nil
}

// unchanged notes a write that changes nothing. The first one of a fresh document counts
// nevertheless: it creates it.
func (d *workingCopy) unchanged() {
	if d.fresh {
		d.changed(d.doc.Metadata)
	}
}

func (d *workingCopy) changed(text []byte) {
	d.doc.Metadata = text
	d.fresh = false
	d.changes++
	if d.versioned {
		d.doc.Version++
	}
}
