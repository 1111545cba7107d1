package sdk

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	pb "github.com/galleychat/galley/sdk/proto/plugin/v1"
)

// Refusal is an error that says what the client is answered: an HTTP status and {"detail": Detail}. LLMs, filters and
// tools return it; any other error is logged, and the client is answered 500 or 502 without its text.
type Refusal struct {
	Status  int // 400 to 599
	Detail  string
	Headers map[string]string
}

// Refuse makes a [*Refusal].
func Refuse(status int, detail string) *Refusal { return &Refusal{Status: status, Detail: detail} }

// With adds a header to the answer, e.g. Retry-After.
func (r *Refusal) With(name, value string) *Refusal {
	if r.Headers == nil {
		r.Headers = map[string]string{}
	}
	r.Headers[name] = value
	return r
}

func (r *Refusal) Error() string { return fmt.Sprintf("%d %s", r.Status, r.Detail) }

// GRPCStatus has the refusal travel as a detail of the call's status.
func (r *Refusal) GRPCStatus() *status.Status {
	d := &pb.Refusal{Status: int32(r.Status), Detail: utf8Text(r.Detail), Headers: map[string]string{}}
	if r.Status < 400 || r.Status > 599 {
		d.Status = http.StatusInternalServerError
	}
	for k, v := range r.Headers {
		d.Headers[utf8Text(k)] = utf8Text(v)
	}
	s := status.New(refusalCode(r.Status), d.GetDetail())
	if with, err := s.WithDetails(d); err == nil {
		return with
	}
	return s
}

// utf8Text is a text as messages carry it, which must be UTF-8.
func utf8Text(s string) string { return strings.ToValidUTF8(s, "\uFFFD") }

// RefusalFrom finds the refusal that the error of a call carries, nil if none.
func RefusalFrom(err error) *Refusal {
	var r *Refusal
	if errors.As(err, &r) {
		return r
	}
	for _, d := range status.Convert(err).Details() {
		if d, ok := d.(*pb.Refusal); ok {
			return &Refusal{Status: int(d.GetStatus()), Detail: d.GetDetail(), Headers: d.GetHeaders()}
		}
	}
	return nil
}

func refusalCode(s int) codes.Code {
	switch s {
	case http.StatusBadRequest:
		return codes.InvalidArgument
	case http.StatusUnauthorized:
		return codes.Unauthenticated
	case http.StatusForbidden:
		return codes.PermissionDenied
	case http.StatusNotFound:
		return codes.NotFound
	case http.StatusTooManyRequests:
		return codes.ResourceExhausted
	case http.StatusServiceUnavailable:
		return codes.Unavailable
	}
	return codes.FailedPrecondition
}

// Errors of the services of [Host].
var (
	ErrNotFound   = errors.New("not found")
	ErrConflict   = errors.New("changed meanwhile")
	ErrQuota      = errors.New("over the quota")
	ErrNotGranted = errors.New("not granted by the operator")
)

// hostError makes the error of a host service one of those above, with what the host said.
func hostError(err error) error {
	if err == nil {
		return nil
	}
	s, ok := status.FromError(err)
	if !ok {
		return err
	}
	if r := RefusalFrom(err); r != nil {
		return r
	}
	var kind error
	switch s.Code() {
	case codes.NotFound:
		kind = ErrNotFound
	case codes.Aborted:
		kind = ErrConflict
	case codes.ResourceExhausted:
		kind = ErrQuota
	case codes.PermissionDenied:
		kind = ErrNotGranted
	case codes.Canceled:
		kind = context.Canceled
	case codes.DeadlineExceeded:
		kind = context.DeadlineExceeded
	default:
		return fmt.Errorf("galley: %s: %s", s.Code(), s.Message())
	}
	return fmt.Errorf("galley: %w: %s", kind, s.Message())
}
