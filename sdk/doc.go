// Package sdk makes Galley plugins in Go. A plugin is a program of its own that Galley starts, watches and talks to; it
// can have HTTP endpoints, an LLM backend, a filter over chats and tools for models, each by one field of [Plugin]:
//
//	func main() {
//		mux := http.NewServeMux()
//		mux.HandleFunc("GET /hello", func(w http.ResponseWriter, r *http.Request) {
//			fmt.Fprintf(w, "Hello, %s!\n", sdk.CallerFrom(r.Context()).Name)
//		})
//		sdk.Serve(sdk.Plugin{ID: "hello", Version: "1.0.0", HTTP: mux})
//	}
//
// Put the program into Galley's plugins folder and GET /api/v1/plugins/hello/hello answers. Package plugintest tests a
// plugin without a server.
//
// The context of every call knows who calls ([CallerFrom]), what the call belongs to ([MetaFrom]), what Galley offers
// ([HostFrom]), the trace (go.opentelemetry.io/otel), and ends when the client goes.
package sdk

// Version is the release of this package, told to Galley.
const Version = "1.0.0"
