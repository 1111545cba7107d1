// Command serve runs the OpenID provider for tests by itself, so that several servers, or a person with a browser, can
// use one:
//
//	go run ./core/auth/oauth/oidctest/serve -listen 127.0.0.1:9300
package main

import (
	"flag"
	"fmt"
	"net/http"
	"os"
	"time"

	"github.com/galleychat/galley/core/auth/oauth/oidctest"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:9300", "address of the loopback to listen on")
	flag.Parse()
	p, h := oidctest.Handler("http://" + *listen)
	p.Delay = 30 * time.Second
	fmt.Println("OPENID_PROVIDER_URL=" + p.Discovery())
	fmt.Fprintln(os.Stderr, (&http.Server{Addr: *listen, Handler: h, ReadHeaderTimeout: 10 * time.Second}).ListenAndServe())
	os.Exit(1)
}
