package plaintext

import (
	"archive/zip"
	"bytes"
	"errors"
	"strings"
	"testing"
)

func TestExtract(t *testing.T) {
	for _, tt := range []struct{ name, kind, content, want string }{
		{"a.txt", "text/plain", "one\r\ntwo\rthree\n", "one\ntwo\nthree\n"},
		{"a.txt", "text/plain", "\ufeffmark", "mark"},
		{"a.txt", "text/plain", " \n ", " \n "},
		{"a.txt", "text/plain", "\x1b[31mred\x1b[0m\x07 \ufb01ne\u2028\u00fcber\x7f", "red fine\nüber"},
		{"a.txt", "text/plain", "caf\xe9 \x80", "café €"},
		{"a.txt", "text/plain", "\xff\xfeh\x00i\x00=\xd8\x00\xde", "hi😀"},
		{"a.txt", "text/plain", "\xfe\xff\x00h\x00i", "hi"},
		{"notes.md", "application/msword", "# Bread\n", "# Bread\n"},
		{"box.json", "application/json", `{"lid": true}`, `{"lid": true}`},
		{"plain", "application/octet-stream", "no extension", "no extension"},
		{"crew.csv", "text/csv", "name,age\nIda,31\n\nOle, 44 \n", "name: Ida\nage: 31 name: Ole\nage: 44"},
		{"odd.csv", "", "\ufeff a ,a,b\r\n1,2\r\n1,2,\"x,\ny\",4, 5\r\n", "a: 1\na: 2\nb: None a: 1\na: 2\nb: x,\ny\nNone: 4,5"},
		{"same.csv", "", "a,b,a\n1,2,3\n", "a: 3\nb: 2"},
		{"head.csv", "", "a,b\n", ""},
		{"p.html", "text/html", "<html><head><title>Quay</title><style>x{}</style><script>var a</script></head><body><h1>Q&amp;A</h1>\n<p>Two <!-- c --> cranes.</p>" +
			"<textarea>t</textarea><noscript>n<b>s</b></noscript><template>tt</template></body></html>", "QuayQ&A\nTwo  cranes.tns"},
		{"p.htm", "", "plain &amp; text", "plain & text"},
		{"p.htm", "", "<html>\n <head>\n  <title>T</title>\n </head>\n <body>\n  <p>x</p>  <pre> \n </pre></body>\n</html>\n", "\n\nT\n\n\nx  \n \n\n"},
		{"p.htm", "", "<!doctype html>\n<ul>\n<li>a < b\n<li>b</ul></script>!", "\na < b\nb!"},
	} {
		got, err := Extract(tt.name, tt.kind, []byte(tt.content))
		if err != nil || got != tt.want {
			t.Errorf("%s %q: got %q, %v, want %q", tt.name, tt.content, got, err, tt.want)
		}
	}
	for _, tt := range []struct{ name, kind, content string }{
		{"a.pdf", "application/pdf", "%PDF-1.4"},
		{"A.XLSX", "", "PK"},
		{"letter", "application/msword", "text in truth"},
		{"a.bin", "application/octet-stream", "a\x00b"},
		{"a.txt", "text/plain", ""},
	} {
		if got, err := Extract(tt.name, tt.kind, []byte(tt.content)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %q, %v", tt.name, got, err)
		}
	}
}

func archive(t *testing.T, parts ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i := 0; i < len(parts); i += 2 {
		w, err := z.Create(parts[i])
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write([]byte(parts[i+1]))
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func word(body string) string {
	return `<?xml version="1.0" encoding="UTF-8"?><w:document xmlns:w="` + wordML + `" xmlns:x="y">` + body + `</w:document>`
}

func TestWordDocuments(t *testing.T) {
	body := word(`<w:body><w:p><w:r><w:t>Dear </w:t><w:t xml:space="preserve">neighbour &amp; co,</w:t></w:r></w:p><w:p><w:r><w:t>one</w:t><w:tab/><w:br/><x:t>no</x:t><w:t>two</w:t></w:r></w:p></w:body>`)
	odd := strings.ReplaceAll(strings.ReplaceAll(body, "w:", "q:"), "xmlns:w", "xmlns:q")
	for _, tt := range []struct {
		name, kind string
		content    []byte
		want, bad  string
	}{
		{"a.docx", "", archive(t, "word/document.xml", body), "Dear neighbour & co,\n\none\t\ntwo", ""},
		{"letter", docxType, archive(t, "word/document.xml", odd), "Dear neighbour & co,\n\none\t\ntwo", ""},
		{"a.docx", docxType, archive(t, "word/footer1.xml", word("<w:p><w:t>foot</w:t></w:p>"), "word/document.xml", word("<w:p><w:t>body</w:t></w:p>"),
			"word/header2.xml", word("<w:p><w:t>head</w:t></w:p>")), "head\n\nbody\n\nfoot", ""},
		{"a.docx", "", []byte("no archive"), "", "File is not a zip file"},
		{"a.docx", "", archive(t, "other.xml", body), "", "no item named 'word/document.xml'"},
		{"a.docx", "", archive(t, "word/document.xml", "<w:document"), "", "word/document.xml: "},
		{"a.docx", "", archive(t, "word/document.xml", strings.Repeat(" ", unpackedLeast+1)), "", errUnpacked.Error()},
	} {
		got, err := Extract(tt.name, tt.kind, tt.content)
		if got != tt.want || (err == nil) != (tt.bad == "") || err != nil && !strings.Contains(err.Error(), tt.bad) {
			t.Errorf("%s: %q, %v, want %q %s", tt.name, got, err, tt.want, tt.bad)
		}
	}
}
