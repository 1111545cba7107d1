// Echo runs the plugin echo as a program of its own.
package main

import (
	"github.com/galleychat/galley/plugins/echo"
	"github.com/galleychat/galley/sdk"
)

func main() { sdk.Serve(echo.Plugin()) }
