package plaintext

import (
	"archive/zip"
	"bytes"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// docxType is the content type of Word documents.
const docxType = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"

// Limits of what an archive may hold when it is unpacked: a hundred times its size and at least 10 MiB, but 100 MiB.
const (
	unpackedRatio = 100
	unpackedLeast = 10 << 20
	unpackedMost  = 100 << 20
)

// Reasons that the reference gives users for archives.
var (
	errNoArchive = errors.New("File is not a zip file")                            //nolint:staticcheck // shown to users
	errUnpacked  = errors.New("Document archive is too large after decompression") //nolint:staticcheck // shown to users
)

var (
	docxHeader = regexp.MustCompile(`^word/header[0-9]*.xml`)
	docxFooter = regexp.MustCompile(`^word/footer[0-9]*.xml`)
)

// fromDocx gives the text of a Word document: headers, body, footers, paragraphs with an empty line between.
func fromDocx(content []byte) (string, error) {
	archive, err := zip.NewReader(bytes.NewReader(content), int64(len(content)))
	if err != nil {
		return "", errNoArchive
	}
	left := uint64(min(max(unpackedLeast, len(content)*unpackedRatio), unpackedMost))
	for _, f := range archive.File {
		if f.UncompressedSize64 > left {
			return "", errUnpacked
		}
		left -= f.UncompressedSize64
	}
	var headers, body, footers []*zip.File
	for _, f := range archive.File {
		switch {
		case f.Name == "word/document.xml":
			body = append(body, f)
		case docxHeader.MatchString(f.Name):
			headers = append(headers, f)
		case docxFooter.MatchString(f.Name):
			footers = append(footers, f)
		}
	}
	if len(body) == 0 {
		return "", errors.New("There is no item named 'word/document.xml' in the archive") //nolint:staticcheck // shown to users
	}
	var out strings.Builder
	for _, f := range append(append(headers, body[0]), footers...) {
		if err := writeWordML(&out, f); err != nil {
			return "", fmt.Errorf("%s: %w", f.Name, err)
		}
	}
	return strings.TrimSpace(out.String()), nil
}

const wordML = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"

func writeWordML(out *strings.Builder, f *zip.File) error {
	r, err := f.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	d := xml.NewDecoder(io.LimitReader(r, int64(f.UncompressedSize64)))
	text := false // directly inside w:t
	for {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch t := token.(type) {
		case xml.StartElement:
			text = false
			if t.Name.Space != wordML {
				continue
			}
			switch t.Name.Local {
			case "t":
				text = true
			case "tab":
				out.WriteByte('\t')
			case "br", "cr":
				out.WriteByte('\n')
			case "p":
				out.WriteString("\n\n")
			}
		case xml.EndElement:
			text = false
		case xml.CharData:
			if text {
				out.Write(t)
			}
		}
	}
}
