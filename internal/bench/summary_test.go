package main

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// measured returns a run with so many operations per second, each of the same duration.
func measured(rate int64, each time.Duration, violations int64) outcome {
	m := newMeasurement()
	m.Ops, m.Took, m.Violations = rate, time.Second, violations
	m.Latency.RecordValues(each.Nanoseconds(), rate)
	return outcome{measurement: m}
}

func threeSubjects(by figure) result {
	return result{
		testCase{name: "c", floor: "floor: f", by: by, subjects: []subject{{name: "lockstore"}, {name: "floor: f"}, {name: "peer"}, {name: "liar"}}},
		[][]outcome{
			{measured(100, 10*time.Millisecond, 0), measured(300, 10*time.Millisecond, 0), measured(200, 10*time.Millisecond, 0)},
			{measured(50, 20*time.Millisecond, 0), measured(50, 20*time.Millisecond, 0), measured(50, 20*time.Millisecond, 0)},
			{measured(80, 5*time.Millisecond, 0), {err: errors.New("no connection")}, measured(80, 5*time.Millisecond, 0)},
			{measured(9000, time.Millisecond, 1), measured(9000, time.Millisecond, 0), measured(9000, time.Millisecond, 0)},
		},
	}
}

func TestRatiosAreOfRoundsAndTheirMedian(t *testing.T) {
	own := threeSubjects(byRate).summarize()[0]
	assert.EqualValues(t, 200, own.OpsPerSec)
	assert.Equal(t, spread{100, 300}, own.OpsRange)
	assert.InDelta(t, 4, *own.RatioToFloor, 1e-9)
	assert.Equal(t, spread{2, 6}, *own.FloorRange)
	assert.InDelta(t, (100.0/80+200.0/80)/2, *own.RatioToBestPeer, 1e-9, "the round in which the peer failed does not count")
	assert.InDelta(t, 10_000, own.P50, 10)
}

func TestRatioOfTimesIsTurnedAround(t *testing.T) {
	own := threeSubjects(byMedian).summarize()[0]
	assert.InDelta(t, 2, *own.RatioToFloor, 0.01, "half the time is twice as good")
	assert.InDelta(t, 0.5, *own.RatioToBestPeer, 0.01)
}

func TestWrongAnswersAreNoPeer(t *testing.T) {
	rows := threeSubjects(byRate).summarize()
	assert.Equal(t, "peer", rows[0].BestPeer)
	assert.EqualValues(t, 1, rows[3].Violations)
	assert.Contains(t, rows[2].Notes, "a round failed: no connection")
}

func TestLowestBoundIsTheBound(t *testing.T) {
	r := threeSubjects(byRate)
	r.subjects = append(r.subjects, subject{name: "bound: far"}, subject{name: "bound: dear"})
	r.outcomes = append(r.outcomes,
		[]outcome{measured(200, time.Millisecond, 0), measured(400, time.Millisecond, 0), measured(1000, time.Millisecond, 0)},
		[]outcome{measured(1000, time.Millisecond, 0), {err: errors.New("no"), hung: true}, measured(800, time.Millisecond, 0)})
	rows := r.summarize()
	assert.InDelta(t, 0.5, *rows[0].RatioToBound, 1e-9)
	assert.Equal(t, spread{0.25, 0.75}, *rows[0].BoundRange)
	assert.Equal(t, "peer", rows[0].BestPeer, "a bound is no peer")
	assert.Nil(t, rows[4].RatioToBound)
}

func TestTargetsSayWhetherTheyAreMet(t *testing.T) {
	ratio := 19.0
	rows := []row{
		{Case: "counter/256", Subject: "lockstore (pgx)", Rates: []float64{300, 200, 100}, RatioToFloor: &ratio, FloorRange: &spread{18, 22}},
		{Case: "counter/256", Subject: redisCounter.name, Rates: []float64{100, 100, 100}},
	}
	var out strings.Builder
	require.NoError(t, printTargets(&out, rows))
	assert.Regexp(t, `by hand +≥ 20 +19.0 \(18.0–22.0\) +not met`, out.String())
	assert.Regexp(t, `Redis INCR +≥ 1 +2.00 \(1.00–3.00\) +met`, out.String())
	rows[1] = row{Case: "counter/256", Subject: redisCounter.name, Failed: errNoRedis.Error()}
	out.Reset()
	require.NoError(t, printTargets(&out, rows))
	assert.Contains(t, out.String(), "not measured: "+errNoRedis.Error())
}

// A figure that there is not would be 0, which is less than any maximum.
func TestTargetsAreNotMetByWhatWasNotMeasured(t *testing.T) {
	for _, r := range []row{
		{Subject: "lockstore (pgx)", Failed: "no connection"},
		{Subject: "lockstore (pgx)", Rates: []float64{0, 0}, RatioToFloor: new(float64), FloorRange: &spread{}},
	} {
		var rows []row
		for _, target := range targets {
			r.Case = target.inOne
			rows = append(rows, r)
		}
		var out strings.Builder
		require.NoError(t, printTargets(&out, rows))
		assert.NotRegexp(t, `  met`, out.String())
		assert.Contains(t, out.String(), "not measured")
	}
}

func TestFailureIsShownAndNotDropped(t *testing.T) {
	r := threeSubjects(byRate)
	r.outcomes[2] = []outcome{{err: errTooLong, hung: true}}
	rows := r.summarize()
	var table strings.Builder
	require.NoError(t, printTable(&table, r.testCase, rows))
	assert.Contains(t, table.String(), "hung")
	assert.Contains(t, table.String(), "1 WRONG")
	assert.Nil(t, rows[0].RatioToBestPeer)
	text, err := json.Marshal(rows[0])
	require.NoError(t, err)
	assert.Contains(t, string(text), `"ratio_to_best_peer":null`)
}

func TestMedianOfFew(t *testing.T) {
	m, s := middle(nil)
	assert.Zero(t, m)
	assert.Zero(t, s)
	m, s = middle([]float64{9, 1})
	assert.EqualValues(t, 5, m)
	assert.Equal(t, spread{1, 9}, s)
}

func TestMeasurementsOfProcessesAddUp(t *testing.T) {
	a, b := measured(10, time.Millisecond, 1).measurement, measured(30, time.Second, 0).measurement
	b.Cut, b.Error, b.Errors = 2*time.Second, "oh", 1
	text, err := json.Marshal(b)
	require.NoError(t, err)
	received := newMeasurement()
	require.NoError(t, json.Unmarshal(text, received))
	a.add(received)
	assert.EqualValues(t, 40, a.Ops)
	assert.EqualValues(t, 40, a.Latency.TotalCount())
	assert.InDelta(t, time.Second, a.Latency.at(50), float64(time.Millisecond))
	assert.Equal(t, 2*time.Second, a.longest(), "a wait that was cut short counts as long as it lasted")
	assert.EqualValues(t, 1, a.Violations)
	assert.EqualValues(t, 1, a.Errors)
	assert.Equal(t, "oh", a.Error)
}

// A subject that ignores its context is abandoned and reported to hang.
func TestHangingSubjectIsBounded(t *testing.T) {
	in, err := openArena(t.Context())
	require.NoError(t, err)
	defer func() { assert.NoError(t, in.close()) }()
	end := make(chan struct{})
	defer close(end)
	asked := 0
	c := testCase{name: "c", by: byRate, subjects: []subject{{name: "sleeper", run: func(context.Context, *arena, pace) (*measurement, error) {
		asked++
		<-end
		return nil, nil
	}}}}
	r, err := c.run(t.Context(), in, pace{Limit: 10 * time.Millisecond}, 3, func(string) {})
	require.NoError(t, err)
	rows := r.summarize()
	assert.Contains(t, rows[0].Failed, "hung")
	assert.Equal(t, 1, asked)
}

func TestRepeatMeasuresAtLeastOne(t *testing.T) {
	m := repeat(t.Context(), pace{}, func() error { time.Sleep(time.Millisecond); return nil })
	assert.EqualValues(t, 1, m.Ops)
	m = repeatFast(t.Context(), pace{Count: time.Millisecond}, func() error { return nil })
	assert.Positive(t, m.Ops)
	assert.Less(t, m.Latency.at(50), time.Microsecond)
}
