package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strings"
)

// A machine is what the figures belong to.
type machine struct {
	processor string
	cores     int
	system    string
	versions  []string
	rtts      []string // each distance that was asked for, and the round trip that was measured
}

func thisMachine(in *arena) machine {
	redis := "no Redis"
	if in.redis != nil {
		redis = in.redis.version
	}
	return machine{processor: processor(), cores: runtime.NumCPU(), system: runtime.GOOS + "/" + runtime.GOARCH,
		versions: []string{in.Database, redis, etcdVersion, strings.Replace(runtime.Version(), "go", "Go ", 1)}}
}

func (m machine) String() string {
	return fmt.Sprintf("%d cores (%s), %s, %s; durable commits (fsync); round trips, as asked for and measured: %s",
		m.cores, m.processor, m.system, strings.Join(m.versions, ", "), strings.Join(m.rtts, ", "))
}

// processor is the name that Linux gives it.
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
