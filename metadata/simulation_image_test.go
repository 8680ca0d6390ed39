package metadata

import (
	"crypto/sha256"
	"fmt"
	"math/bits"
	"time"
)

// An image is one state of a document, and never changes.
type image struct {
	text    []byte
	version int64
	updated int64 // in microseconds since 2000
	marks   marks
}

// digest is digestSQL.
func (m *image) digest() string { return fmt.Sprintf("%x", sha256.Sum256(m.text)) }

func newImage(text []byte, version int64) *image {
	return &image{text, version, time.Now().UnixMicro() - secondsBefore2000*1e6, marksOf(text)}
}

// marks are the numbers of the writes that a document shows.
type marks [4]uint64

const maxMarks = 256

// marksOf looks for members such as "w17".
func marksOf(text []byte) (m marks) {
	for i := 0; i+3 < len(text); i++ {
		if text[i] != '"' || text[i+1] != 'w' {
			continue
		}
		n, j := 0, i+2
		for ; text[j] >= '0' && text[j] <= '9'; j++ {
			n = 10*n + int(text[j]-'0')
		}
		if j > i+2 && text[j] == '"' {
			m[n/64] |= 1 << (n % 64)
		}
	}
	return m
}

func (m marks) has(n int) bool { return m[n/64]&(1<<(n%64)) != 0 }

func (m marks) without(o marks) marks {
	for i := range m {
		m[i] &^= o[i]
	}
	return m
}

func (m marks) count() (n int) {
	for _, word := range m {
		n += bits.OnesCount64(word)
	}
	return n
}

func (m marks) each(f func(n int)) {
	for i, word := range m {
		for ; word != 0; word &= word - 1 {
			f(64*i + bits.TrailingZeros64(word))
		}
	}
}
