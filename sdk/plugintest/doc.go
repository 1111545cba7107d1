// Package plugintest tests a plugin without a server, over the protocol that Galley speaks:
//
//	func TestHello(t *testing.T) {
//		h := plugintest.Start(t, plugin())
//		resp, err := h.As(plugintest.Admin).HTTP().Get("/hello")
//		…
//	}
//
// The plugin meets a host that keeps everything in memory: keys and values, users, models with canned answers, files and
// the events that it was sent. [Harness.Host] looks at them as a plugin would. The plugin's process is the test's; what
// happens when processes start and end is Galley's own to test.
package plugintest
