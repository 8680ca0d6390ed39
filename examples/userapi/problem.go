package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

// A problem is an error response (RFC 9457). It quotes no document, and nothing of the
// database but a constraint's name.
type problem struct {
	Title  string  `json:"title"`
	Status int     `json:"status"`
	Detail string  `json:"detail,omitempty"`
	Holder *holder `json:"holder,omitempty"` // of the document, if it is locked
}

// holder describes the holder of a document's lock.
type holder struct {
	Application string     `json:"application"`
	PID         uint32     `json:"pid"`
	Since       *time.Time `json:"since,omitempty"` // if this process is the holder
}

// Error returns the detail, or the status as text.
func (p *problem) Error() string { return cmp.Or(p.Detail, http.StatusText(p.Status)) }

// write sends a problem as the response.
func write(w http.ResponseWriter, p problem) {
	p.Title = http.StatusText(p.Status)
	w.Header().Set("Content-Type", "application/problem+json")
	switch p.Status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable, http.StatusLocked:
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client may be gone
}

// fail sends the problem for an error. It logs the error if that is the service's fault.
func (s *service) fail(w http.ResponseWriter, r *http.Request, err error) {
	p := problemOf(err)
	if p.Status >= 500 && !errors.Is(err, context.Canceled) {
		s.log.Error("failed", "route", r.Pattern, "user", r.PathValue("id"), "error_type", metadata.ErrorType(err), "error", err)
	}
	write(w, p)
}

// problemOf returns the problem for an error. The order of the cases is the one that package
// metadata prescribes for its errors.
func problemOf(err error) problem {
	var (
		ours     *problem
		patch    *metadata.PatchError
		size     *metadata.DocumentSizeError
		rejected *metadata.RejectedError
		token    *metadata.TokenError
		version  *metadata.VersionError
		busy     *lock.BusyError
	)
	is := func(target error) bool { return errors.Is(err, target) }
	switch {
	case errors.As(err, &ours):
		return *ours
	case is(metadata.ErrUnknownOutcome):
		return problem{Status: http.StatusGatewayTimeout, Detail: "it is not known whether this was done; the same again, with the same Idempotency-Key, tells"}
	case is(metadata.ErrUnavailable), is(metadata.ErrWrongServer), is(metadata.ErrStale), is(metadata.ErrClosed):
		return problem{Status: http.StatusServiceUnavailable, Detail: "the database cannot be used now; nothing was done"}
	case is(lock.ErrLost):
		return problem{Status: http.StatusServiceUnavailable, Detail: "the lock that this was written under is lost; nothing was done"}
	case errors.As(err, &patch):
		p := problem{Status: http.StatusUnprocessableEntity, Detail: patch.Reason + " at " + patch.Path}
		switch {
		case is(metadata.ErrMalformed):
			p.Status = http.StatusBadRequest
		case is(metadata.ErrTooLarge):
			p.Status = http.StatusRequestEntityTooLarge
		}
		return p
	case is(metadata.ErrInvalidID):
		return problem{Status: http.StatusBadRequest, Detail: "no user can have this id"}
	case is(metadata.ErrInvalidToken):
		return problem{Status: http.StatusBadRequest, Detail: "an Idempotency-Key has 1 to " + strconv.Itoa(metadata.MaxTokenLen) + " bytes"}
	case errors.As(err, &size):
		return problem{Status: http.StatusRequestEntityTooLarge, Detail: "the metadata would be too large with it"}
	case errors.As(err, &rejected):
		p := problem{Status: http.StatusUnprocessableEntity, Detail: "refused by the database: " + cmp.Or(rejected.Constraint, rejected.SQLState)}
		switch rejected.SQLState {
		case "23505": // unique_violation: conflicts with another user's metadata
			p.Status = http.StatusConflict
		case "42501": // insufficient_privilege
			p.Status = http.StatusForbidden
		}
		return p
	case errors.As(err, &token):
		return problem{Status: http.StatusUnprocessableEntity, Detail: "the Idempotency-Key was used for another request, which made version " + strconv.FormatInt(token.Made, 10)}
	case is(metadata.ErrProtected):
		return problem{Status: http.StatusForbidden, Detail: err.Error()}
	case is(metadata.ErrNotFound):
		return problem{Status: http.StatusNotFound, Detail: "no such user"}
	case errors.As(err, &version):
		return problem{Status: http.StatusPreconditionFailed, Detail: "it has been changed: GET it again"}
	case errors.As(err, &busy) && is(lock.ErrBusy):
		if busy.Attempts == 0 && !is(context.Canceled) && !is(context.DeadlineExceeded) { // the wait queue is full
			return problem{Status: http.StatusTooManyRequests, Detail: "too many writes wait for this user's metadata"}
		}
		return problem{Status: http.StatusLocked, Detail: "somebody keeps it", Holder: holderOf(busy.Status)}
	case is(context.Canceled): // the client is gone
		return problem{Status: http.StatusServiceUnavailable}
	case is(context.DeadlineExceeded):
		return problem{Status: http.StatusGatewayTimeout, Detail: "it took too long; nothing was done"}
	}
	return problem{Status: http.StatusInternalServerError}
}

// holderOf returns the first holder of a key, nil if it is unknown.
func holderOf(s *lock.Status) *holder {
	if s == nil || len(s.Holders) == 0 {
		return nil
	}
	first := s.Holders[0]
	h := &holder{Application: first.Application, PID: first.PID}
	if !first.Since.IsZero() {
		h.Since = &first.Since
	}
	return h
}
