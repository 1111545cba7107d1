// Package config holds what Galley is told: the process settings of the environment ([Env]), read once at the start, and
// the settings an administrator changes while it runs ([Settings]).
//
// Names, defaults, variables and rows are those of Open WebUI 0.12.4 (its env.py, config.py and models/config.py), so
// that both servers start from one environment and share one database. A setting's variable gives its initial value; the
// row in the table config, which the first start writes, overrides it from then on, unless ENABLE_PERSISTENT_CONFIG is
// false. Settings whose key begins with "oauth." stay with the environment unless ENABLE_OAUTH_PERSISTENT_CONFIG is true.
//
// Code that serves requests reads a [Snapshot]: immutable, had without a lock or an allocation.
//
//	snap := settings.Snapshot()
//	if config.UIEnableSignup.Get(snap) { … }
package config

//go:generate go run ./internal/gen

// Version is the version of the HTTP API that is served, as GET /api/version answers it.
const Version = "0.12.4"
