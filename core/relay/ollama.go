package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/llm/ollama"
	"github.com/galleychat/galley/core/web"
)

// OllamaFailure is the error for an Ollama server that was not reached.
func OllamaFailure(err error) *web.Error {
	return web.Because(http.StatusInternalServerError, "Ollama: "+reason(err), err)
}

// OllamaRefusal is the error for an Ollama server that refused a request to a path. It closes the answer.
func OllamaRefusal(ctx context.Context, p llm.Connected, path string, resp *http.Response, caller *llm.Caller) *web.Error {
	u := ollama.Failure(resp)
	llm.Refused(ctx, p, ollama.Refusal(p.Connection(), path, u, caller))
	e := web.Because(u.Status, jsondoc.Doc(u.Body).Get("detail"), u)
	e.Header = u.Header()
	return e
}

// reason is the innermost error; for a server that takes no connection it is told as the reference tells it, which
// programs may look for.
func reason(err error) string {
	var dial *net.OpError
	if errors.As(err, &dial) && dial.Op == "dial" {
		if a, ok := dial.Addr.(*net.TCPAddr); ok {
			return fmt.Sprintf("Cannot connect to host %s ssl:default [Connect call failed ('%s', %d)]", a, a.IP, a.Port)
		}
	}
	for inner := err; inner != nil; inner = errors.Unwrap(inner) {
		err = inner
	}
	return err.Error()
}

// Ask sends a request to an Ollama server and gives its JSON, null where it answers something else. Errors are
// *web.Error.
func Ask(ctx context.Context, p llm.Connected, method, path string, body []byte, caller *llm.Caller) (jsondoc.Doc, error) {
	resp, err := p.Do(ctx, method, path, body, false, caller)
	if err != nil {
		return nil, either(ctx.Err(), OllamaFailure(err))
	}
	if resp.StatusCode >= 400 {
		return nil, OllamaRefusal(ctx, p, path, resp, caller)
	}
	raw, err := llm.ReadBody(resp)
	if err != nil {
		return nil, either(ctx.Err(), OllamaFailure(err))
	}
	doc, bad := jsondoc.Check(raw)
	if bad != nil || !llm.IsJSONType(resp.Header.Get("Content-Type")) {
		return jsondoc.Doc("null"), nil
	}
	return doc, nil
}

func either(err error, other *web.Error) error {
	if err != nil {
		return err
	}
	return other
}
