package faults_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
)

// childEnv contains the database's address in a child of this test program.
const childEnv = "LOCKSTORE_FAULTS_CHILD"

// A process is a child of this program with its own locker and store. It executes orders, one
// line after the other.
type process struct {
	w   *world
	cmd *exec.Cmd
	in  io.Writer
	out *bufio.Reader
}

func (w *world) process() *process {
	w.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+w.db.URL())
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	require.NoError(w, err)
	out, err := cmd.StdoutPipe()
	require.NoError(w, err)
	require.NoError(w, cmd.Start())
	p := &process{w, cmd, in, bufio.NewReader(out)}
	w.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return p
}

// tell sends an order.
func (p *process) tell(order string) {
	p.w.Helper()
	_, err := fmt.Fprintln(p.in, order)
	require.NoError(p.w, err)
}

// hear returns the answer to the next order.
func (p *process) hear() string {
	p.w.Helper()
	line, err := p.out.ReadString('\n')
	require.NoError(p.w, err)
	return strings.TrimSpace(line)
}

func (p *process) ask(order string) string {
	p.w.Helper()
	p.tell(order)
	return p.hear()
}

func (p *process) signal(s syscall.Signal) {
	p.w.Helper()
	require.NoError(p.w, p.cmd.Process.Signal(s))
}

// child executes the orders.
func child() int {
	ctx := context.Background()
	if os.Getenv(childEnv) == cutOff {
		fmt.Println(holdAndCutOff(ctx))
		return 0
	}
	pool, err := pgxpool.New(ctx, os.Getenv(childEnv))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	locker, err := lock.NewPostgres(ctx, pool, &lock.PostgresOptions{HandOff: time.Millisecond})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	store, err := metadata.NewPostgres(pool, nil)
	if err != nil {
		fmt.Println(err)
		return 1
	}
	var held *lock.Held
	for orders := bufio.NewScanner(os.Stdin); orders.Scan(); {
		order := strings.Fields(orders.Text())
		answer := "ok"
		switch order[0] {
		case "lock":
			if held, err = locker.Lock(ctx, store.Key(order[1])); err == nil {
				answer = strconv.Itoa(int(pidOf(held)))
			}
		case "merge": // under the hold
			_, err = store.Merge(held.Context(), order[1], json.RawMessage(`{"`+order[2]+`":1}`))
		case "write": // without one
			_, err = store.Merge(ctx, order[1], json.RawMessage(`{"`+order[2]+`":1}`))
		case "unlock":
			err = held.Unlock()
		}
		switch {
		case errors.Is(err, lock.ErrLost):
			answer = "lost"
		case err != nil:
			answer = "failed: " + err.Error()
		}
		fmt.Println(answer)
	}
	return 0
}
