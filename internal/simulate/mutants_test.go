package simulate

import "testing"

func TestMutantsAreFoundByTheRuleThatTheyBreak(t *testing.T) {
	t.Setenv(toyVariable, "right")
	RejectMutants(t, ".", "TestToy", []Mutant{
		{
			Name: "reads no more", File: "simulate_test.go",
			Old: `kind == "right" {`, New: `kind == "wrong" {`,
			Rule: "LOST UPDATE", Schedules: 200,
		},
	})
}
