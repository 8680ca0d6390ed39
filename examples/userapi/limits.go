package main

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// limits bound the requests under way, so that what is too much is refused at once, and
// the callers of one user do not keep out those of others.
type limits struct {
	mu               sync.Mutex
	total            int
	byUser           map[string]int
	maxTotal, maxOne int
}

func newLimits(maxTotal, maxOne int) *limits {
	return &limits{byUser: map[string]int{}, maxTotal: maxTotal, maxOne: maxOne}
}

// enter returns 0, or the status of a refusal.
func (l *limits) enter(user string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.total >= l.maxTotal:
		return http.StatusServiceUnavailable
	case l.byUser[user] >= l.maxOne:
		return http.StatusTooManyRequests
	}
	l.total++
	l.byUser[user]++
	return 0
}

func (l *limits) leave(user string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total--
	if l.byUser[user]--; l.byUser[user] == 0 {
		delete(l.byUser, user)
	}
}

// limited runs a handler within limits of number and time.
func (s *service) limited(number *limits, timeout time.Duration, next func(http.ResponseWriter, *http.Request) error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user := r.PathValue("id")
		if status := number.enter(user); status != 0 {
			write(w, problem{Status: status, Detail: "too many requests are under way"})
			return
		}
		defer number.leave(user)
		ctx, cancel := context.WithTimeout(r.Context(), timeout)
		defer cancel()
		if err := next(w, r.WithContext(ctx)); err != nil {
			s.fail(w, r, err)
		}
	})
}
