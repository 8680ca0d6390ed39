package pgdb

import (
	"encoding/binary"
	"net"
	"syscall"
	"unsafe"
)

// hungUp reports whether the server has ended an idle connection: it has closed it, or sent
// the reason why it will. Over a network, writing to such a connection would succeed. It
// costs a system call.
func hungUp(conn net.Conn) (gone bool) {
	readable := true
	if wrapper, ok := conn.(interface{ NetConn() net.Conn }); ok { // TLS
		conn, readable = wrapper.NetConn(), false
	}
	socket, ok := conn.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := socket.SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		const in, closed = 0x1, 0x2000 | 0x10 | 0x8 // POLLIN; POLLRDHUP, POLLHUP, POLLERR: see poll(2)
		poll := struct {
			fd              int32
			events, revents int16
		}{int32(fd), in | closed, 0}
		var now syscall.Timespec
		n, _, _ := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&poll)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
		if int(n) != 1 {
			return
		}
		if gone = poll.revents&closed != 0; !gone && readable {
			var b [4096]byte
			n, _, _ := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			gone = hasError(b[:max(n, 0)])
		}
	})
	return gone
}

// hasError reports whether there is an error among messages that the server sent unasked. Such
// an error ends the session (PostgreSQL documentation, section 55.2.7).
func hasError(messages []byte) bool {
	for len(messages) > 4 {
		if messages[0] == 'E' {
			return true
		}
		length := 1 + uint64(binary.BigEndian.Uint32(messages[1:]))
		messages = messages[min(length, uint64(len(messages))):]
	}
	return false
}
