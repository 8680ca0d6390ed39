package pgtest

import "net"

var Children = children

// CheckPeer returns an error unless the user listens at the other end of a Unix socket.
func CheckPeer(conn net.Conn, uid uint32) error { return checkPeer(conn, &account{uid, uid}) }
