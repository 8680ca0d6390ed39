package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strings"
)

// A machine describes where the figures were measured.
type machine struct {
	what string
	rtts []string // each requested distance, and its measured round trip
}

func thisMachine(in *arena) machine {
	redis := "no Redis"
	if in.redis != nil {
		redis = in.redis.version
	}
	versions := []string{in.Database, redis, etcdVersion, strings.Replace(runtime.Version(), "go", "Go ", 1)}
	return machine{what: fmt.Sprintf("%d cores (%s), %s/%s, %s; durable commits (fsync)",
		runtime.NumCPU(), processor(), runtime.GOOS, runtime.GOARCH, strings.Join(versions, ", "))}
}

func (m machine) String() string {
	return m.what + "; round trips, as asked for and measured: " + strings.Join(m.rtts, ", ")
}

// processor returns the processor's name on Linux.
func processor() string {
	f, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return runtime.GOARCH
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if name, value, _ := strings.Cut(lines.Text(), ":"); strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}
