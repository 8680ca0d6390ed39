//go:build !linux

package pgdb

import "net"

// hungUp cannot be told here: what the server has closed fails when it is used.
func hungUp(net.Conn) bool { return false }
