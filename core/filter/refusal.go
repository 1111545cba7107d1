package filter

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/galleychat/galley/core/web"
)

// own are headers that belong to the answer as it is written: a filter cannot set them.
var own = []string{"Content-Length", "Content-Type", "Content-Encoding", "Transfer-Encoding", "Connection", "Trailer", "Upgrade"}

// refusal is the answer for an inlet's error: what a *web.Error says, made fit to be answered, or 400 with the error's
// text. The end of ctx stays what it is.
func (f *Filters) refusal(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return err
	}
	var w *web.Error
	if !errors.As(err, &w) {
		return web.Because(http.StatusBadRequest, err.Error(), err)
	}
	out := &web.Error{Status: w.Status, Detail: w.Detail, Cause: w.Cause, Header: http.Header{}}
	if out.Status < http.StatusBadRequest || out.Status > 599 {
		out.Status = http.StatusBadRequest
	}
	for name, values := range w.Header {
		for _, v := range values {
			out.Header.Add(name, v)
		}
	}
	for _, name := range own {
		out.Header.Del(name)
	}
	if out.Detail == nil || out.Detail == "" {
		out.Detail = standardText(out)
	}
	return out
}

// standardText is what a person reads of a refusal that says nothing.
func standardText(e *web.Error) string {
	text := http.StatusText(e.Status)
	if text == "" {
		text = "Error " + strconv.Itoa(e.Status)
	}
	if after := strings.TrimSpace(e.Header.Get("Retry-After")); after != "" {
		if _, err := strconv.Atoi(after); err == nil {
			after = "in " + after + " seconds"
		} else {
			after = "after " + after
		}
		text += ". Try again " + after + "."
	}
	return text
}

// Text is what a person is shown of an error of filters.
func Text(err error) string {
	var w *web.Error
	if errors.As(err, &w) {
		if s, ok := w.Detail.(string); ok && s != "" {
			return s
		}
		if w.Detail == nil {
			return standardText(w)
		}
	}
	return err.Error()
}
