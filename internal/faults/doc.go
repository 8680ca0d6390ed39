// Package faults tests lockstore with faults. Its tests are the table in README.md; program
// nemesis injects random faults; package history checks what both of them recorded.
package faults
