package web

import (
	"fmt"
	"net/http"
)

// Error is an answer other than success: status and {"detail": Detail}. Cause is only logged.
type Error struct {
	Status int
	Detail any
	Body   any // the whole body instead, of groups with an envelope of their own
	Cause  error
	Header http.Header // added to the answer; may be nil
}

func (e *Error) Error() string {
	if e.Cause != nil {
		return fmt.Sprintf("%d %v: %v", e.Status, e.Detail, e.Cause)
	}
	return fmt.Sprintf("%d %v", e.Status, e.Detail)
}

func (e *Error) Unwrap() error { return e.Cause }

// Fail is an error answer with a detail, most often a text that the reference gives.
func Fail(status int, detail any) *Error { return &Error{Status: status, Detail: detail} }

// Because is Fail with the error that led to it, for the log.
func Because(status int, detail any, cause error) *Error {
	return &Error{Status: status, Detail: detail, Cause: cause}
}

// Texts that many operations of the reference answer with (its constants.py).
const (
	TextNotFound     = "We could not find what you're looking for :/"
	TextUnauthorized = "401 Unauthorized"
	TextProhibited   = "You do not have permission to access this resource. Please contact your administrator for assistance."
	TextDefault      = "Something went wrong :/"
	TextInternal     = "Internal Server Error" // of errors that nobody expected
)

// TextDetail is the reference's wrapping of an own message.
func TextDetail(message string) string { return "[ERROR: " + message + "]" }
