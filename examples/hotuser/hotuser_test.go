package main

import (
	"bytes"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/pgtest"
)

// TestMain adds the faulty strategies. The test binary can be a worker process, like the
// program.
func TestMain(m *testing.M) {
	strategies = append(strategies, faultyStrategies...)
	if isWorker() {
		main()
		return
	}
	os.Exit(m.Run())
}

// call runs the program on the tests' server, and returns its exit status and output.
func call(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	server, err := pgtest.Start(t.Context())
	require.NoError(t, err)
	defer server.Close()
	var out, errs bytes.Buffer
	status = run(t.Context(), append([]string{"-dsn", server.URL()}, args...), &out, &errs)
	return status, out.String(), errs.String()
}

// rows parses the output of -json, which must be nothing else.
func rows(t *testing.T, stdout string) map[string]result {
	t.Helper()
	in := json.NewDecoder(bytes.NewBufferString(stdout))
	in.DisallowUnknownFields()
	var list []result
	require.NoError(t, in.Decode(&list), stdout)
	_, err := in.Token()
	require.ErrorIs(t, err, io.EOF, "nothing follows the array")
	byName := map[string]result{}
	for _, r := range list {
		byName[r.Strategy] = r
	}
	return byName
}

func TestNothingIsLostByLockstore(t *testing.T) {
	for _, processes := range []string{"1", "3"} {
		t.Run(processes+" processes", func(t *testing.T) {
			status, stdout, stderr := call(t, "-dsn", "", "-writers", "32", "-processes", processes,
				"-strategies", "lockstore,locker+v0.25,update-concat", "-json")
			require.Zero(t, status, stderr)
			for name, r := range rows(t, stdout) {
				assert.Equal(t, 32, r.Writers, name)
				assert.Equal(t, 32, r.Acknowledged, name)
				assert.Zero(t, r.Failed, name)
				assert.Zero(t, r.Lost, name)
				assert.Zero(t, r.LeakedLocks, name)
				assert.Positive(t, r.P50, name)
				assert.GreaterOrEqual(t, r.P99, r.P50, name)
				assert.Positive(t, r.Seconds, name)
				assert.Contains(t, stderr, name)
			}
			assert.Len(t, rows(t, stdout), 3)
		})
	}
}

func TestZepRuleLosesOrFails(t *testing.T) {
	status, stdout, stderr := call(t, "-writers", "64", "-strategies", "zep-v0.24", "-json")
	require.Zero(t, status, "nothing is promised of it: %s", stderr)
	r := rows(t, stdout)["zep-v0.24"]
	assert.Equal(t, 64, r.Acknowledged+r.Failed)
	assert.Positive(t, r.Lost+r.Failed)
}

func TestLossAndLeaksAreFound(t *testing.T) {
	tests := []struct {
		strategy     string
		lost, leaked int
	}{
		{"forgetful", 7, 0},
		{"overwriting", 7, 0},
		{"leaky", 0, 1},
	}
	for _, tt := range tests {
		t.Run(tt.strategy, func(t *testing.T) {
			status, stdout, stderr := call(t, "-writers", "8", "-strategies", tt.strategy, "-json")
			assert.Equal(t, 1, status)
			r := rows(t, stdout)[tt.strategy]
			assert.Equal(t, 8, r.Acknowledged)
			assert.Equal(t, tt.lost, r.Lost)
			assert.Equal(t, tt.leaked, r.LeakedLocks)
			assert.Contains(t, stderr, tt.strategy+" lost")
			assert.Contains(t, stderr, "bug")
		})
	}
}

func TestDoingNothingIsNotEnough(t *testing.T) {
	status, stdout, stderr := call(t, "-writers", "3", "-strategies", "refusing", "-json")
	assert.Equal(t, 1, status)
	assert.Equal(t, 3, rows(t, stdout)["refusing"].Failed)
	assert.Contains(t, stderr, "refusing acknowledged nothing")
	assert.Contains(t, stderr, "not today")
}

func TestEachProcessTakesPartAndIsWatched(t *testing.T) {
	_, stdout, _ := call(t, "-writers", "9", "-processes", "3", "-strategies", "forgetful,leaky", "-json")
	assert.Equal(t, 6, rows(t, stdout)["forgetful"].Lost, "each of three processes makes one merge")
	assert.Equal(t, 1, rows(t, stdout)["leaky"].LeakedLocks, "one process holds the lock")
}

func TestRunIsCutWhenItHangs(t *testing.T) {
	var stderr bytes.Buffer
	stuck, err := strategyNamed("stuck")
	require.NoError(t, err)
	p := &plan{writers: 3, processes: 1, strategies: []strategy{stuck}, cut: 2 * time.Second} // enough for all to begin
	results, err := p.run(t.Context(), &stderr)
	<-hanging
	require.NoError(t, err)
	assert.Equal(t, 3, results[0].Failed)
	assert.Contains(t, stderr.String(), cutNote)
	var stdout bytes.Buffer
	require.NoError(t, p.show(results, &stdout))
	assert.Contains(t, stdout.String(), cutNote)
}

func TestInterruptEndsARunThatHangs(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	var stderr bytes.Buffer
	ended := make(chan int)
	go func() { ended <- run(ctx, []string{"-writers", "4", "-strategies", "stuck"}, io.Discard, &stderr) }()
	<-hanging
	cancel()
	assert.Equal(t, 1, <-ended)
	assert.Contains(t, stderr.String(), "interrupted")
}

func TestWorkerFailuresAreTold(t *testing.T) {
	for _, processes := range []string{"1", "2"} {
		status, stdout, stderr := call(t, "-writers", "4", "-processes", processes, "-strategies", "unopenable", "-json")
		assert.Equal(t, 1, status)
		assert.Empty(t, stdout)
		assert.Contains(t, stderr, "no way in")
	}
	status, stdout, stderr := call(t, "-writers", "4", "-processes", "2", "-strategies", "crashing", "-json")
	assert.Equal(t, 1, status)
	assert.Empty(t, stdout)
	assert.Contains(t, stderr, "exit status 3")
}

func TestGivenServerIsLeftAsItWas(t *testing.T) {
	server, err := pgtest.Start(t.Context(), pgtest.Dedicated())
	require.NoError(t, err)
	defer server.Close()
	status, _, stderr := call(t, "-dsn", server.URL(), "-writers", "2", "-strategies", "update-concat")
	require.Zero(t, status, stderr)

	conn, err := database{DSN: server.URL()}.connect(t.Context())
	require.NoError(t, err)
	defer conn.Close(t.Context())
	var left int
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) FROM pg_database WHERE datname LIKE 'hotuser%'`).Scan(&left))
	assert.Zero(t, left)
}

func TestWrongCallsSayWhatToDo(t *testing.T) {
	tests := []struct {
		name   string
		args   []string
		status int
		says   string
	}{
		{"no writers", []string{"-writers", "0"}, 2, "choose 1 to 10000"},
		{"no processes", []string{"-processes", "0"}, 2, "choose 1 to 256"},
		{"more processes than writers", []string{"-writers", "2", "-processes", "3"}, 2, "choose 1 to 2"},
		{"unknown strategy", []string{"-strategies", "update-concat,zep"}, 2, "choose from zep-v0.23, "},
		{"unknown flag", []string{"-fast"}, 2, "Try: "},
		{"argument", []string{"update-concat"}, 2, "everything is a flag"},
		{"help", []string{"-help"}, 0, "Strategies:"},
		{"bad dsn", []string{"-dsn", "postgres://%"}, 1, "check that -dsn"},
		{"no server there", []string{"-dsn", "host=/nowhere"}, 1, "check that -dsn"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, stdout, stderr := call(t, tt.args...)
			assert.Equal(t, tt.status, status)
			assert.Contains(t, stderr, tt.says)
			assert.Empty(t, stdout)
		})
	}
}

func TestPictureShowsEveryRow(t *testing.T) {
	file := filepath.Join(t.TempDir(), "table.svg")
	status, _, stderr := call(t, "-writers", "4", "-strategies", "update-concat,overwriting", "-svg", file)
	require.Equal(t, 1, status, stderr)
	picture, err := os.ReadFile(file)
	require.NoError(t, err)

	var texts []string
	for in := xml.NewDecoder(bytes.NewReader(picture)); ; {
		token, err := in.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		require.NoError(t, err, "well-formed XML")
		if chars, ok := token.(xml.CharData); ok {
			texts = append(texts, string(chars))
		}
	}
	assert.Contains(t, texts, "update-concat")
	assert.Contains(t, texts, "overwriting")
	assert.Contains(t, texts, "4 writers merge into one user's metadata at once")
	assert.Contains(t, texts, "3", "the lost ones")
}

func TestPictureThatCannotBeWrittenCostsNoResults(t *testing.T) {
	status, stdout, stderr := call(t, "-writers", "1", "-strategies", "update-concat", "-svg", filepath.Join(t.TempDir(), "none", "x.svg"))
	assert.Equal(t, 1, status)
	assert.Contains(t, stdout, "update-concat")
	assert.Contains(t, stderr, "choose another -svg file")
}

func TestNewResult(t *testing.T) {
	var outcomes []outcome
	for n := range 200 {
		outcomes = append(outcomes, outcome{Writer: n, Took: time.Duration(200-n) * time.Millisecond})
	}
	for n := range 5 {
		outcomes[n].Error = "busy"
	}
	outcomes[7].Error = "gone"
	r := newResult("x", 1, outcomes, 1500*time.Millisecond)
	assert.Equal(t, 194, r.Acknowledged)
	assert.Equal(t, 6, r.Failed)
	assert.Equal(t, "busy", r.reason)
	assert.False(t, r.cut)
	assert.Equal(t, 100.0, r.P50)
	assert.Equal(t, 198.0, r.P99)
	assert.Equal(t, 1.5, r.Seconds)
}
