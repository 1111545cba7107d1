package main

import (
	"os"

	"github.com/galleychat/galley/core/app"
	"github.com/galleychat/galley/core/plugin"
	"github.com/galleychat/galley/plugins/echo"
	"github.com/galleychat/galley/sdk"
)

// builtinCommand is the word with which this program is started as one of its own plugins. It is not for people.
const builtinCommand = "builtin-plugin"

// builtins are the plugins that come with the program. They run as further processes of it.
var builtins = map[string]func() sdk.Plugin{"echo": echo.Plugin}

// serveBuiltin plays a plugin if the command line says so. It does not return then.
func serveBuiltin(args []string) {
	if len(args) != 2 || args[0] != builtinCommand {
		return
	}
	if p, ok := builtins[args[1]]; ok {
		sdk.Serve(p())
		os.Exit(0)
	}
}

// useBuiltins adds the plugins that the settings ask for: echo, which has the demo model.
func useBuiltins(c *app.Config) error {
	if !c.Demo {
		return nil
	}
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	p := echo.Plugin()
	c.Builtin = append(c.Builtin, plugin.Manifest{
		ID: p.ID, Name: p.Name, Description: p.Description, Version: p.Version, Command: exe, Args: []string{builtinCommand, p.ID},
	})
	return nil
}
