package main

import (
	"crypto/sha256"
	"crypto/subtle"
	"net"
	"net/http"
	"strings"
)

// guarded protects the console. Requests need the token or, if none is configured, must come
// from this machine. Requests that another site makes a browser send are refused.
func (s *service) guarded(next http.Handler) http.Handler {
	next = http.NewCrossOriginProtection().Handler(next)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		head := w.Header()
		head.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; form-action 'self'; frame-ancestors 'none'; base-uri 'none'")
		head.Set("X-Content-Type-Options", "nosniff")
		head.Set("Referrer-Policy", "no-referrer")
		head.Set("Cache-Control", "no-store")
		switch {
		case s.token != "" && !hasToken(r, s.token):
			head.Set("WWW-Authenticate", `Basic realm="locks", charset="UTF-8"`)
			http.Error(w, "want the token, as the password of any user", http.StatusUnauthorized)
		case s.token == "" && !isLocal(r):
			http.Error(w, "want a request from this machine; others need a token (-token-file)", http.StatusForbidden)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

func hasToken(r *http.Request, token string) bool {
	_, given, basic := r.BasicAuth()
	if !basic {
		given, _ = strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	}
	a, b := sha256.Sum256([]byte(given)), sha256.Sum256([]byte(token)) // hashes have equal lengths
	return subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// isLocal reports whether a request comes from this machine, neither forwarded by a proxy nor
// sent to a foreign name that resolves to this machine (DNS rebinding).
func isLocal(r *http.Request) bool {
	for _, name := range []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip", "Via"} {
		if r.Header.Get(name) != "" {
			return false
		}
	}
	from, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil || !net.ParseIP(from).IsLoopback() {
		return false
	}
	host, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		host = strings.Trim(r.Host, "[]")
	}
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}
