package pgtest

import (
	"net"
	"syscall"
)

// checkPeer returns an error unless the account listens at the other end of a Unix socket
// (SO_PEERCRED).
func checkPeer(conn net.Conn, as *account) error {
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return err
	}
	var peer *syscall.Ucred
	control := raw.Control(func(fd uintptr) {
		peer, err = syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	})
	switch {
	case control != nil:
		return control
	case err != nil:
		return err
	case peer.Uid != as.id():
		return errStranger
	}
	return nil
}
