package web

import (
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"reflect"
	"strings"
)

// The reference's limits for forms.
const (
	maxFormFiles  = 1000
	maxFormFields = 1000
	maxFormText   = 1 << 20
)

// formData is a body of fields, some of them files.
type formData struct{ parts []formPart }

type formPart struct {
	name string
	text string
	file *Upload
}

// readForm reads a multipart or urlencoded body; of any other type it has no fields. The files' content is the call's
// to remove, in case of an error too.
func (c *Call) readForm(limit int64, dir string) (*formData, error) {
	form := &formData{}
	kind, params, err := mime.ParseMediaType(c.R.Header.Get("Content-Type"))
	sent, _, _ := strings.Cut(c.R.Header.Get("Content-Type"), ";")
	if err != nil || strings.TrimSpace(sent) != kind { // the reference wants lower case
		kind = strings.TrimSpace(sent)
	}
	if c.R.Body == nil || c.R.Body == http.NoBody {
		return form, nil
	}
	body := http.MaxBytesReader(c.W, c.R.Body, limit)
	err = nil
	switch kind {
	case "multipart/form-data":
		if params["boundary"] == "" {
			return nil, Fail(http.StatusBadRequest, "Missing boundary in multipart.")
		}
		err = c.readParts(form, body, params["boundary"], dir)
	case "application/x-www-form-urlencoded":
		err = form.readURLEncoded(body)
	}
	return form, c.formError(err)
}

func (c *Call) formError(err error) error {
	var e *Error
	var storage *storageError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &e), errors.As(err, &storage):
		return err
	}
	return readFailed(c.W, err, "Invalid multipart data.")
}

// counter counts what is read.
type counter struct {
	io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.n += int64(n)
	return n, err
}

func (c *Call) readParts(form *formData, body io.Reader, boundary, dir string) error {
	in := &counter{Reader: body}
	r := multipart.NewReader(in, boundary)
	files, fields := 0, 0
	for {
		p, err := r.NextRawPart()
		if err == io.EOF || err != nil && in.n == 0 { // the closing boundary, or nothing at all
			return nil
		}
		if err != nil {
			return err
		}
		_, params, err := mime.ParseMediaType(p.Header.Get("Content-Disposition"))
		name, named := params["name"]
		if err != nil || !named {
			return Fail(http.StatusBadRequest, `The Content-Disposition header field "name" must be provided.`)
		}
		part := formPart{name: name}
		if filename, ok := params["filename"]; ok {
			if files++; files > maxFormFiles {
				return Fail(http.StatusBadRequest, "Too many files. Maximum number of files is 1000.")
			}
			part.file = &Upload{Filename: baseName(filename), ContentType: p.Header.Get("Content-Type")}
			c.uploads = append(c.uploads, part.file)
			err = part.file.fill(p, dir)
		} else {
			if fields++; fields > maxFormFields {
				return Fail(http.StatusBadRequest, "Too many fields. Maximum number of fields is 1000.")
			}
			part.text, err = readText(p, "Part exceeded maximum size of 1024KB.")
		}
		if err != nil {
			return err
		}
		form.parts = append(form.parts, part)
	}
}

func readText(r io.Reader, tooLong string) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxFormText+1))
	if err != nil {
		return "", err
	}
	if len(b) > maxFormText {
		return "", Fail(http.StatusBadRequest, tooLong)
	}
	return strings.ToValidUTF8(string(b), "\uFFFD"), nil
}

func (form *formData) readURLEncoded(r io.Reader) error {
	b, err := io.ReadAll(r)
	if err != nil {
		return err
	}
	var bad error
	eachPair(string(b), func(name, value string) {
		if len(name)+len(value) > maxFormText {
			bad = Fail(http.StatusBadRequest, "Field exceeded maximum size of 1024KB.")
		} else if len(form.parts) == maxFormFields {
			bad = Fail(http.StatusBadRequest, "Too many fields. Maximum number of fields is 1000.")
		} else if bad == nil {
			form.parts = append(form.parts, formPart{name: unescape(name), text: unescape(value)})
		}
	})
	return bad
}

// formField binds a field of a form: an empty text counts as absent.
func (f *field) formField(dst reflect.Value, form *formData) Problems {
	at := placeOf(f.loc)
	var parts []formPart
	if form != nil {
		for _, p := range form.parts {
			if p.name == f.name {
				parts = append(parts, p)
			}
		}
	}
	if f.kind == kindList && len(parts) > 0 {
		return f.formList(dst, parts, at)
	}
	if len(parts) > 0 {
		if p := parts[len(parts)-1]; p.file != nil || p.text != "" {
			return f.formPart(f.target(dst, true), p, at)
		}
	}
	return f.absent(dst, at)
}

func (f *field) formList(dst reflect.Value, parts []formPart, at *place) Problems {
	var ps Problems
	out := reflect.MakeSlice(f.typ, len(parts), len(parts))
	for i, p := range parts {
		here := at.item(i)
		ps = append(ps, f.elem.formPart(f.elem.target(out.Index(i), true), p, &here)...)
	}
	f.target(dst, true).Set(out)
	return ps
}

func (f *field) formPart(v reflect.Value, p formPart, at *place) Problems {
	switch {
	case f.kind == kindUpload && p.file == nil:
		return notUpload(at.loc(), p.text)
	case f.kind == kindUpload:
		v.Set(reflect.ValueOf(p.file).Elem())
		return nil
	case p.file == nil:
		return f.decodeText(v, p.text, at)
	}
	// a file where a text is wanted is of the wrong type as any object is
	return f.decode(v, p.file.input(), at)
}
