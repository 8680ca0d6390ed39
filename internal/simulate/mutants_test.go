package simulate

import "testing"

func TestMutantsAreFoundByTheRuleThatTheyBreak(t *testing.T) {
	t.Setenv(toyVariable, "right")
	RejectMutants(t, "TestToy", []Mutant{
		{"reads no more", "simulate_test.go", `kind == "right" {`, `kind == "wrong" {`, "LOST UPDATE", 200},
	})
}
