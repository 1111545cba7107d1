package app

import "github.com/galleychat/galley/core/web"

// mounted is a module and the prefix of its paths.
type mounted struct {
	prefix string
	module web.Module
}

// modules makes all modules of the API. A module that is a Starter, Runner, Drainer or Stopper takes part in the life of
// the process; other parts that do are appended to a.parts here.
func (a *App) modules() ([]mounted, error) {
	return []mounted{
		{"", &probes{app: a}},
	}, nil
}
