package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"sync"
	"time"

	"example.com/lockstore/metadata"
)

const eventStream = "text/event-stream"

// stopGrace is how long a client has to receive the end of the stream.
const stopGrace = time.Second

// wantsEvents reports whether a GET asks for a stream instead of the current state.
func wantsEvents(r *http.Request) bool {
	media, _, _ := mime.ParseMediaType(r.Header.Get("Accept"))
	return r.Method == http.MethodGet && (r.URL.Query().Has("watch") || media == eventStream)
}

// watch sends a user's metadata as server-sent events (HTML Standard, section 9.2): the
// current state, unless the client already has it, and then the later ones. It ends when the
// client leaves or does not read, after maxWatch, or with the service.
func (s *service) watch(w http.ResponseWriter, r *http.Request) error {
	ctx, leave := context.WithCancel(r.Context())
	defer leave()
	control := http.NewResponseController(w)
	defer context.AfterFunc(s.serving, func() {
		leave()
		_ = control.SetWriteDeadline(time.Now().Add(stopGrace)) // for a write in progress
	})()
	id, last := r.PathValue("id"), r.Header.Get("Last-Event-ID")
	if err := s.exists(ctx, id); err != nil {
		return err // before the stream begins, an error can have a status
	}

	w.Header().Set("Content-Type", eventStream)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // nginx must not buffer events
	to := &events{ctx: ctx, to: w, control: control, patience: s.timeout}
	defer func() { _ = control.SetWriteDeadline(time.Now().Add(stopGrace)) }()
	var beating sync.WaitGroup
	defer beating.Wait()
	defer leave()
	beating.Go(func() {
		defer leave()
		for to.send(": heartbeat\n\n") == nil && sleep(ctx, s.heartbeat) {
		}
	})
	for doc, err := range s.store.Watch(ctx, id) {
		if err != nil {
			if ctx.Err() == nil && !errors.Is(err, metadata.ErrClosed) {
				s.log.Error("failed", "route", r.Pattern, "user", id, "error_type", metadata.ErrorType(err), "error", err)
			}
			break
		}
		known := doc.Metadata != nil && last == strconv.FormatInt(doc.Version, 10)
		last = "" // the client can only have the first state
		if !known && to.send(event(doc)) != nil {
			break
		}
	}
	return nil
}

// exists returns the error that a GET would return.
func (s *service) exists(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	_, err := s.store.Get(ctx, id)
	return err
}

// event formats a state, which contains no line break. A deleted document has no version.
func event(doc metadata.Document) string {
	if doc.Metadata == nil {
		return "event: deleted\nid:\ndata: null\n\n"
	}
	return fmt.Sprintf("id: %d\ndata: %s\n\n", doc.Version, doc.Metadata)
}

// events sends events one after the other, each within a time limit.
type events struct {
	ctx      context.Context
	mu       sync.Mutex
	to       io.Writer
	control  *http.ResponseController
	patience time.Duration
}

func (e *events) send(text string) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.control.SetWriteDeadline(time.Now().Add(e.patience)); err != nil {
		return err
	}
	if err := e.ctx.Err(); err != nil { // later, whatever ends ctx also sets a write deadline
		return err
	}
	if _, err := io.WriteString(e.to, text); err != nil {
		return err
	}
	return e.control.Flush()
}
