package lock

import (
	"fmt"
	"net"
	"os"
	"strings"
	"syscall"
)

// isListener reports whether a unix socket's listener is a program of that name. It is false
// for one in another container, of which that is unknown.
func isListener(conn net.Conn, program string) (is bool) {
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		if who, err := syscall.GetsockoptUcred(int(fd), syscall.SOL_SOCKET, syscall.SO_PEERCRED); err == nil {
			name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", who.Pid))
			is = strings.TrimSpace(string(name)) == program
		}
	})
	return is
}
