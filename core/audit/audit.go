// Package audit writes the log of who asked for what: one JSON object a line, with the fields of the reference, into a
// file that is rotated and compressed, and to standard output where that is asked for.
package audit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/galleychat/galley/core/auth"
	"github.com/galleychat/galley/core/config"
	"github.com/galleychat/galley/core/store"
	"github.com/galleychat/galley/core/web"
)

// Levels: what is kept beside who, what and when. With full the status and the answer are, too.
const (
	levelNone    = "NONE"
	levelRequest = "REQUEST"
	levelFull    = "REQUEST_RESPONSE"
)

// Door finds out who sends a request; session.Sessions is one.
type Door interface {
	web.Authenticator
	// Credential says whether a request names its caller at all.
	Credential(r *http.Request) (token string, found bool)
}

// Options are what a Log needs.
type Options struct {
	Env    config.Audit
	Door   Door
	Stdout io.Writer // where Env.Stdout asks for lines
	Log    *slog.Logger
}

// Log is the audit log. It implements web.Auditor.
type Log struct {
	o        Options
	included *regexp.Regexp // nil for none
	excluded *regexp.Regexp
	file     *file // nil where lines go to standard output only
	now      func() time.Time
}

// Open opens the log; nil where the settings ask for none.
func Open(o Options) (*Log, error) {
	e := o.Env
	if e.Level == levelNone || e.Level == "" || !e.ToFile && !e.Stdout {
		return nil, nil
	}
	l := &Log{o: o, now: time.Now}
	var err error
	if l.included, err = below(e.Included); err != nil {
		return nil, &config.VarError{Name: "AUDIT_INCLUDED_PATHS", Value: strings.Join(e.Included, ","), Want: "paths: " + err.Error()}
	}
	if l.excluded, err = below(e.Excluded); err != nil {
		return nil, &config.VarError{Name: "AUDIT_EXCLUDED_PATHS", Value: strings.Join(e.Excluded, ","), Want: "paths: " + err.Error()}
	}
	if l.included != nil && e.Excluded != nil {
		o.Log.Warn("AUDIT_INCLUDED_PATHS is set: AUDIT_EXCLUDED_PATHS is not looked at")
	}
	if e.ToFile {
		if l.file, err = openFile(e.File, e.RotationSize, o.Log); err != nil {
			return nil, fmt.Errorf("AUDIT_LOGS_FILE_PATH: %w", err)
		}
	}
	return l, nil
}

// below matches the paths of the API below some, which are patterns; nil for none.
func below(paths []string) (*regexp.Regexp, error) {
	if len(paths) == 0 {
		return nil, nil
	}
	return regexp.Compile(`^/api(?:/v1)?/(?:` + strings.Join(paths, "|") + `)\b`)
}

// Stop writes nothing any more and waits for files that are being compressed.
func (l *Log) Stop(context.Context) error {
	if l.file == nil {
		return nil
	}
	return l.file.close()
}

// always are addresses that are recorded whoever calls, and whatever the lists of paths say.
var always = []string{"/api/v1/auths/signin", "/api/v1/auths/signout", "/api/v1/auths/signup", "/api/v1/auths/mfa"}

func isAlways(path string) bool {
	path = strings.ToLower(path)
	for _, p := range always {
		if strings.HasPrefix(path, p) {
			return true
		}
	}
	return false
}

// wants says whether a request is recorded.
func (l *Log) wants(r *http.Request) bool {
	switch r.Method {
	case http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete:
	case http.MethodGet:
		if !l.o.Env.GetRequests {
			return false
		}
	default:
		return false
	}
	path := r.URL.Path
	if strings.HasPrefix(path, "/ws/socket.io") {
		return false
	}
	if isAlways(path) {
		return true
	}
	if _, found := l.o.Door.Credential(r); !found {
		return false
	}
	if l.included != nil {
		return l.included.MatchString(path)
	}
	return l.excluded == nil || !l.excluded.MatchString(path)
}

// Begin implements web.Auditor.
func (l *Log) Begin(r *http.Request) *web.Record {
	if !l.wants(r) {
		return nil
	}
	begun := &entry{ID: store.NewID(), Level: l.o.Env.Level, Verb: r.Method, URI: web.Scheme(r) + "://" + r.Host + r.URL.RequestURI(), Source: web.ClientIP(r)}
	if v := r.Header["User-Agent"]; v != nil {
		begun.Agent = &v[0]
	}
	rec := &web.Record{Data: begun}
	path := r.URL.Path
	if strings.HasPrefix(path, "/api/v1/auths") || strings.HasPrefix(path, "/oauth/") {
		// No body: these hold passwords, codes and tokens. Who signs out is only known before it is done.
		rec.Caller = l.who(r)
		return rec
	}
	if l.o.Env.Level == levelRequest || l.o.Env.Level == levelFull {
		rec.Sent = web.NewHead(l.o.Env.MaxBody)
	}
	if l.o.Env.Level == levelFull {
		rec.Answered = web.NewHead(l.o.Env.MaxBody)
	}
	return rec
}

func (l *Log) who(r *http.Request) *auth.Principal {
	if _, found := l.o.Door.Credential(r); !found {
		return nil
	}
	p, err := l.o.Door.Authorize(r.WithContext(context.WithoutCancel(r.Context())), auth.Optional)
	if err != nil {
		return nil // the request goes on, or not, without the log
	}
	return p
}

// entry is a line of the log.
type entry struct {
	ID        string  `json:"id"`
	Timestamp int64   `json:"timestamp"`
	User      user    `json:"user"`
	Level     string  `json:"audit_level"`
	Verb      string  `json:"verb"`
	URI       string  `json:"request_uri"`
	Status    *int    `json:"response_status_code"`
	Source    string  `json:"source_ip"`
	Agent     *string `json:"user_agent"`
	Model     *string `json:"model_id"`
	Usage     *usage  `json:"usage"`
	Sent      *string `json:"request_object"`
	Answered  *string `json:"response_object"`
	Extra     extra   `json:"extra"`
}

type usage struct {
	Input  int `json:"input_tokens"`
	Output int `json:"output_tokens"`
	Total  int `json:"total_tokens"`
}

type extra struct {
	Event   string `json:"event,omitempty"`
	Request string `json:"request_id,omitempty"`
}

type user struct {
	ID    string `json:"id,omitempty"`
	Name  string `json:"name,omitempty"`
	Email string `json:"email,omitempty"`
	Role  string `json:"role,omitempty"`
}

// End implements web.Auditor.
func (l *Log) End(r *http.Request, rec *web.Record) {
	p := rec.Caller
	if p == nil {
		p = l.who(r)
	}
	e := *rec.Data.(*entry)
	sent, answered := redact(rec.Sent.String()), redact(rec.Answered.String())
	e.Sent, e.Answered = &sent, &answered
	e.User = userOf(p)
	if l.o.Env.Level == levelFull {
		e.Status = &rec.Status
	}
	if rec.Model != "" {
		e.Model = &rec.Model
	}
	l.log(r.Context(), &e)
}

// Usage writes what a call to a model used, for the request that the call's context belongs to.
func (l *Log) Usage(ctx context.Context, model string, input, output int) {
	rec := web.RecordOf(ctx)
	if rec == nil || input+output == 0 {
		return
	}
	begun, ok := rec.Data.(*entry)
	if !ok {
		return
	}
	e := *begun
	e.ID = store.NewID()
	e.User = userOf(rec.Caller)
	e.Model = &model
	e.Usage = &usage{input, output, input + output}
	e.Extra = extra{Event: "model_usage", Request: begun.ID}
	l.log(ctx, &e)
}

func userOf(p *auth.Principal) user {
	if p == nil || p.User == nil {
		return user{}
	}
	return user{p.ID, p.Name, p.Email, p.Role}
}

func (l *Log) log(ctx context.Context, e *entry) {
	e.Timestamp = l.now().Unix()
	line, err := json.Marshal(e, jsontext.AllowInvalidUTF8(true))
	if err == nil {
		err = l.write(append(line, '\n'))
	}
	if err != nil {
		l.o.Log.ErrorContext(ctx, "audit log not written", "error", err)
	}
}

func (l *Log) write(line []byte) error {
	var errs []error
	if l.file != nil {
		errs = append(errs, l.file.write(line))
	}
	if l.o.Env.Stdout {
		_, err := l.o.Stdout.Write(line)
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// secret is a member of a JSON object, whole or cut off at the end, that is nobody's business: passwords, as the reference
// has it, and keys and tokens.
var secret = regexp.MustCompile(`(?i)"(\w*(?:password|secret|token|api_?keys?|private_?key)|key)"(\s*:\s*)(?:"(?:[^"\\]|\\.)*(?:"|\\?$)|\[[^\]{]*(?:\]|$))`)

// redact makes text of the beginning of a body, without the secrets in it.
func redact(body string) string {
	if !utf8.ValidString(body) {
		body = strings.ToValidUTF8(body, "\uFFFD")
	}
	return secret.ReplaceAllString(body, `"$1"$2"********"`)
}
