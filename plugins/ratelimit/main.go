// Ratelimit is a Galley plugin that limits requests and tokens of users and groups. It counts in Galley's key-value store,
// so that limits hold over all replicas and restarts.
package main

import "github.com/galleychat/galley/sdk"

func main() { sdk.Serve(newLimiter().plugin()) }

func (l *limiter) plugin() sdk.Plugin {
	return sdk.Plugin{
		ID: "ratelimit", Name: "Rate limits", Version: "1.0.0", Description: "Limits requests and tokens of users and groups",
		Config: l.settings, Wants: []string{"kv"}, Check: l.check,
		Filter: &sdk.Filter{
			Priority: -100, // before filters that do work
			Tasks:    true, // the settings say whether they count
			Inlet:    l.inlet, Outlet: l.outlet, Stream: l.stream,
		},
	}
}
