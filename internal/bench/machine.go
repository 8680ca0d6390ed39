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
}

func thisMachine(in *arena) machine {
	return machine{processor(), runtime.NumCPU(), runtime.GOOS + "/" + runtime.GOARCH,
		[]string{in.Database, in.redis.name, strings.Replace(runtime.Version(), "go", "Go ", 1)}}
}

func (m machine) String() string {
	return fmt.Sprintf("%d cores (%s), %s, %s; durable commits (fsync), over a Unix socket",
		m.cores, m.processor, m.system, strings.Join(m.versions, ", "))
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
