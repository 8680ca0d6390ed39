package main

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// limits limits the concurrent requests, in total and per user. Requests beyond the limits are
// refused at once, so that those for one user do not block those for others.
type limits struct {
	maxTotal, maxPerUser int

	mu     sync.Mutex
	total  int
	byUser map[string]int
}

func newLimits(maxTotal, maxPerUser int) *limits {
	return &limits{maxTotal: maxTotal, maxPerUser: maxPerUser, byUser: map[string]int{}}
}

// enter counts a request. It returns 0, or the status with which to refuse the request.
func (l *limits) enter(user string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.total >= l.maxTotal:
		return http.StatusServiceUnavailable
	case l.byUser[user] >= l.maxPerUser:
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

// limited limits the number and the time of a handler's requests.
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
