package simulate

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	schedules = flag.Int("schedules", 1000, "how many schedules to play; a tenth of them under the race detector")
	firstSeed = flag.Uint64("seed", 0, "the seed of the first schedule; 0: a random one")
	story     = flag.Bool("story", false, "print the story of the schedule of -seed, and play no other")
	twice     = flag.Bool("twice", false, "play each schedule twice, and count those that go the same way both times")
	shorten   = flag.Bool("shorten", true, "search for a shorter story of the schedule that failed")
	hangs     = flag.Duration("hangs", 20*time.Second, "how long a schedule may take, in real time")
)

// Run plays schedules as the flags say, each in its own bubble, on all cores. The first
// schedule that breaks a rule, panics or hangs fails the test. Under the race detector, which
// is slow, Run plays a tenth of them.
func Run(t *testing.T, play func(*Schedule)) {
	if task := os.Getenv(taskVariable); task != "" {
		work(t, task, play)
		return
	}
	seed := *firstSeed
	if seed == 0 {
		seed = rand.Uint64N(1 << 40)
	}
	if *story {
		t.Log((&part{t: t, seed: seed, count: 1}).tell(nil))
		return
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	count := *schedules
	if raced {
		count = (count + 9) / 10
	}
	parts := make([]*part, min(runtime.NumCPU(), count))
	begin := time.Now()
	var group sync.WaitGroup
	for i := range parts {
		from, to := i*count/len(parts), (i+1)*count/len(parts)
		parts[i] = &part{t: t, seed: seed + uint64(from), count: to - from}
		group.Go(func() {
			parts[i].run(ctx)
			if parts[i].failure != "" {
				cancel()
			}
		})
	}
	group.Wait()
	took := time.Since(begin)
	played, same := 0, 0
	for _, p := range parts {
		played, same = played+p.played, same+p.same
	}
	t.Logf("%d schedules from seed %d in %s, %.0f a second on %d cores", played, seed, took.Round(time.Millisecond), float64(played)/took.Seconds(), len(parts))
	if *twice {
		t.Logf("%d of %d went the same way twice", same, played)
	}
	for _, p := range parts {
		if p.failure != "" {
			t.Errorf("seed %d: %s\n%s", p.failed, p.failure, p.stacks)
			if *shorten {
				t.Logf("the shortest story found:\n%s", p.shorten())
			}
			t.Logf("whole: go test -run '^%s$' -story -seed %d -v", t.Name(), p.failed)
			return
		}
	}
}

// work is the child process: it plays schedules in order and exits after the first failure.
func work(t *testing.T, text string, play func(*Schedule)) {
	task, err := parseTask(text)
	if err != nil {
		t.Fatal(err)
	}
	progress := os.NewFile(3, "progress")
	plays := 1
	if *twice {
		plays = 2
	}
	same := 0
	for seed := task.seed; seed < task.seed+uint64(task.count); seed++ {
		if _, err := progress.WriteAt([]byte(fmt.Sprintf("%020d %020d", seed, same)), 0); err != nil {
			t.Fatal(err)
		}
		alarm := time.AfterFunc(*hangs, func() {
			fmt.Println("FAILED HANG: nothing happens any more")
			stacks := make([]byte, 1<<20)
			fmt.Printf("%s\n", stacks[:runtime.Stack(stacks, true)])
			os.Exit(1)
		})
		var hashes [2]uint64
		for i := range plays {
			synctest.Test(t, func(t *testing.T) {
				s := newSchedule(seed, task.skip, task.telling || *twice)
				play(s)
				hashes[i] = s.hash.Sum64()
				if broken := s.Broken(); broken != "" || task.telling {
					fmt.Printf("FAILED %s\n%s\nSTEPS %d\n", broken, s.report(), s.step)
					os.Exit(1) // goroutines that hang in the bubble cannot be ended otherwise
				}
			})
		}
		alarm.Stop()
		if hashes[0] == hashes[1] {
			same++
		}
	}
	fmt.Printf("PLAYED %d SAME %d\n", task.count, same)
}

const taskVariable = "LOCKSTORE_SCHEDULES"

// A task tells a child process which schedules to play.
type task struct {
	seed    uint64
	count   int
	telling bool
	skip    map[int]bool
}

func (k task) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d %d %t", k.seed, k.count, k.telling)
	for step := range k.skip {
		fmt.Fprintf(&b, " %d", step)
	}
	return b.String()
}

func parseTask(text string) (k task, err error) {
	fields := strings.Fields(text)
	if _, err := fmt.Sscan(strings.Join(fields[:3], " "), &k.seed, &k.count, &k.telling); err != nil {
		return k, err
	}
	k.skip = map[int]bool{}
	for _, f := range fields[3:] {
		step, err := strconv.Atoi(f)
		if err != nil {
			return k, err
		}
		k.skip[step] = true
	}
	return k, nil
}
