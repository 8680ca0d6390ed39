// Package faults tries to make lockstore lie. Its tests are the table of
// faults in README.md; program nemesis draws faults at random; package history
// judges what either of them saw.
package faults
