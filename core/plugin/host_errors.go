package plugin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/galleychat/galley/core/jsondoc"
	"github.com/galleychat/galley/core/llm"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/store/plugins"
	"github.com/galleychat/galley/core/web"
	"github.com/galleychat/galley/sdk"
)

// codesOf are the codes of errors that plugins are to know by them.
var codesOf = []struct {
	err  error
	code codes.Code
}{
	{store.ErrNotFound, codes.NotFound},
	{plugins.ErrConflict, codes.Aborted},
	{plugins.ErrQuota, codes.ResourceExhausted},
	{plugins.ErrTooLarge, codes.InvalidArgument},
	{plugins.ErrKey, codes.InvalidArgument},
	{plugins.ErrNotCounter, codes.FailedPrecondition},
	{plugins.ErrOverflow, codes.FailedPrecondition},
}

// hostStatus is an error of a service as a plugin is told it: a refusal where it says what a client is to be answered, one
// of those above, a status that it is already, and any other without its text.
func hostStatus(ctx context.Context, err error) *status.Status {
	if r := hostRefusal(err); r != nil { // first: behind it may be the status of a call to another plugin
		return r.GRPCStatus()
	}
	for _, k := range codesOf {
		if errors.Is(err, k.err) {
			return status.New(k.code, k.err.Error())
		}
	}
	if s, ok := status.FromError(err); ok {
		return s
	}
	if ctx.Err() != nil {
		return status.FromContextError(ctx.Err())
	}
	return status.New(codes.Internal, "Galley could not do this; its log says why")
}

// hostRefusal is what a client would be answered with an error; nil if that does not say.
func hostRefusal(err error) *sdk.Refusal {
	var answer *web.Error
	var upstream *llm.UpstreamError
	var broken *llm.StreamError
	switch {
	case errors.As(err, &answer):
		detail, ok := answer.Detail.(string)
		if !ok {
			detail = jsondoc.Of(answer.Detail).String()
		}
		return refuse(answer.Status, detail, answer.Header)
	case errors.As(err, &upstream):
		h := upstream.Header()
		h.Del("Content-Type")
		return refuse(upstream.Status, upstream.Message(), h)
	case errors.Is(err, llm.ErrModelNotFound):
		return refuse(http.StatusNotFound, "Model not found", nil)
	case errors.Is(err, llm.ErrBadRequest):
		return refuse(http.StatusBadRequest, err.Error(), nil)
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded): // also where it broke a stream
		return nil
	case errors.As(err, &broken):
		return refuse(http.StatusBadGateway, "The provider broke off its answer: "+strings.TrimPrefix(broken.Err.Error(), "llm: "), nil)
	}
	return nil
}

func refuse(code int, detail string, h http.Header) *sdk.Refusal {
	r := sdk.Refuse(code, strings.ToValidUTF8(detail, "\uFFFD"))
	for name := range h {
		r.With(name, strings.ToValidUTF8(h.Get(name), "\uFFFD"))
	}
	return r
}

// invalid is the error of a request that cannot be right.
func invalid(format string, args ...any) error {
	return status.Error(codes.InvalidArgument, fmt.Sprintf(format, args...))
}

// maxID is how long ids of users, chats, messages and files may be, in bytes.
const maxID = 255

// checkID checks an id: one line of text that is not empty.
func checkID(name, id string) error {
	if id == "" {
		return invalid("%s is missing", name)
	}
	return checkLine(name, id, maxID)
}

// checkLine checks a text of one line, which may be empty.
func checkLine(name, text string, limit int) error {
	switch {
	case len(text) > limit:
		return invalid("%s is longer than %d bytes", name, limit)
	case !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl):
		return invalid("%s is not a line of text", name)
	}
	return nil
}
