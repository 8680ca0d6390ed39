package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"example.com/lockstore/internal/faults/neighbour"
)

// attacks are faults that continue during later ones.
func attacks(of ...neighbour.Attack) (all []fault) {
	for _, a := range of {
		all = append(all, fault{a.Name, func(n *nemesis, ctx context.Context, _ *client, d time.Duration) error {
			n.attacks.Go(func() { n.attack(ctx, a, d) })
			return nil
		}})
	}
	return all
}

func (n *nemesis) attack(ctx context.Context, a neighbour.Attack, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	for ctx.Err() == nil {
		if _, err := n.neighbour.Attack(ctx, a); err != nil && ctx.Err() == nil {
			if n.peaceful { // otherwise another fault may have stopped it
				fmt.Fprintf(os.Stderr, "%s: %v\n", a.Name, err)
			}
			time.Sleep(10 * time.Millisecond)
		}
	}
}

// hang makes callers of a client without a deadline hang; the others must continue.
var hang = fault{"callers hang", func(n *nemesis, _ context.Context, c *client, d time.Duration) error {
	n.recovered("what was before callers hang") // so that the others have no other reason to wait
	d += time.Second
	if err := c.order(hangOrder, d); err != nil {
		return err
	}
	time.Sleep(d)
	return nil
}}

// tenant makes a client serve a hostile tenant, during later faults.
var tenant = fault{"a tenant sends dear patches", func(_ *nemesis, _ context.Context, c *client, d time.Duration) error {
	return c.order(tenantOrder, d)
}}
