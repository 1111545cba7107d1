package plaintext

import (
	"errors"
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
		{"A.DOCX", "", "PK"},
		{"letter", "application/msword", "text in truth"},
		{"a.bin", "application/octet-stream", "a\x00b"},
		{"a.txt", "text/plain", ""},
	} {
		if got, err := Extract(tt.name, tt.kind, []byte(tt.content)); !errors.Is(err, ErrFormat) {
			t.Errorf("%s: %q, %v", tt.name, got, err)
		}
	}
}
