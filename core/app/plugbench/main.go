// Command plugbench measures what a plugin costs: the same handlers and the same model once built in and once in a plugin,
// side by side in one run on one server.
//
//	go run ./core/app/plugbench [-rounds 5] [-seconds 3] [-only get,load,stream,upload,sockets]
//
// It starts a server with a fresh data folder and one plugin, both being this program, and puts load on it over the
// loopback. CPU is that of the server and the plugin together, memory that of the server alone.
package main

import (
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/galleychat/galley/sdk"
)

var (
	rounds  = flag.Int("rounds", 5, "how often the two sides take turns")
	seconds = flag.Float64("seconds", 3, "length of one turn of a load")
	only    = flag.String("only", "", "measure just these, separated by commas: get, load, stream, upload, sockets")
)

func main() {
	if os.Getenv(sdk.Handshake.MagicCookieKey) != "" {
		sdk.Serve(benchPlugin())
		return
	}
	if len(os.Args) == 2 && os.Args[1] == "serve" {
		if err := serve(); err != nil {
			fmt.Fprintln(os.Stderr, "plugbench:", err)
			os.Exit(1)
		}
		return
	}
	flag.Parse()
	if err := measure(); err != nil {
		fmt.Fprintln(os.Stderr, "plugbench:", err)
		os.Exit(1)
	}
}

// wanted says whether a measurement is asked for.
func wanted(name string) bool { return *only == "" || strings.Contains(","+*only+",", ","+name+",") }
