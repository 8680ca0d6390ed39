//go:build !linux

package pgdb

import "net"

// hungUp cannot detect anything here: a connection that the server has closed fails on use.
func hungUp(net.Conn) bool { return false }
